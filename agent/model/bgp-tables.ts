// What the tables of the BGP speaker beside us hold: values of lib/gobgp, one object each.
import type { BgpGlobal, BgpLocalPath } from '../../lib/gobgp/types.js'

/** The speaker itself: one. Another AS or router id ends all its sessions. */
export type BgpSpeaker = BgpGlobal

export type BgpAnnouncement = BgpLocalPath
