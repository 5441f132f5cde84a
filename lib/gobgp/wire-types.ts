// The messages of proto.ts as protobufjs decodes them: camelCase, every field there (scalars with proto3's defaults,
// messages as null, lists empty). What we send is a Draft: only the fields that matter.

export type Draft<T> = {
  [K in keyof T]?: T[K] extends Uint8Array
    ? Uint8Array
    : T[K] extends readonly (infer E)[]
      ? readonly (E extends object ? Draft<E> : E)[]
      : T[K] extends object | null
        ? Draft<NonNullable<T[K]>>
        : T[K]
}

export interface WireAny {
  readonly typeUrl: string
  readonly value: Uint8Array
}
export interface WireFamily {
  readonly afi: number
  readonly safi: number
}
export interface WireGlobal {
  readonly asn: number
  readonly routerId: string
  readonly listenPort: number
  readonly listenAddresses: readonly string[]
  readonly useMultiplePaths: boolean
}
export interface WireAfiSafi {
  readonly mpGracefulRestart: {
    readonly config: { readonly enabled: boolean } | null
    readonly state: { readonly received: boolean; readonly endOfRibReceived: boolean } | null
  } | null
  readonly config: { readonly family: WireFamily | null; readonly enabled: boolean } | null
  readonly state: {
    readonly family: WireFamily | null
    readonly received: number
    readonly accepted: number
    readonly advertised: number
  } | null
  readonly prefixLimits: {
    readonly family: WireFamily | null
    readonly maxPrefixes: number
    readonly shutdownThresholdPct: number
  } | null
  readonly longLivedGracefulRestart: {
    readonly config: { readonly enabled: boolean; readonly restartTime: number } | null
  } | null
}
export interface WirePeerState {
  readonly messages: {
    readonly received: { readonly notification: number } | null
    readonly sent: { readonly notification: number } | null
  } | null
  readonly neighborAddress: string
  readonly peerAsn: number
  readonly sessionState: number
  readonly adminState: number
  readonly remoteCap: readonly WireAny[]
  readonly routerId: string
}
export interface WirePeer {
  readonly conf: {
    readonly authPassword: string
    readonly description: string
    readonly localAsn: number
    readonly neighborAddress: string
    readonly peerAsn: number
    readonly type: number
    readonly allowOwnAsn: number
  } | null
  readonly ebgpMultihop: { readonly enabled: boolean; readonly multihopTtl: number } | null
  readonly routeReflector: {
    readonly routeReflectorClient: boolean
    readonly routeReflectorClusterId: string
  } | null
  readonly state: WirePeerState | null
  readonly timers: {
    readonly config: {
      readonly connectRetry: number
      readonly holdTime: number
      readonly keepaliveInterval: number
      readonly idleHoldTimeAfterReset: number
    } | null
    readonly state: {
      readonly negotiatedHoldTime: number
      readonly uptime: { readonly seconds: number } | null
    } | null
  } | null
  readonly transport: {
    readonly localAddress: string
    readonly passiveMode: boolean
    readonly remotePort: number
  } | null
  readonly gracefulRestart: {
    readonly enabled: boolean
    readonly restartTime: number
    readonly helperOnly: boolean
    readonly deferralTime: number
    readonly notificationEnabled: boolean
    readonly longlivedEnabled: boolean
    readonly peerRestarting: boolean
    readonly localRestarting: boolean
  } | null
  readonly afiSafis: readonly WireAfiSafi[]
  readonly ttlSecurity: { readonly enabled: boolean; readonly ttlMin: number } | null
}
export interface WirePath {
  readonly nlri: WireAny | null
  readonly pattrs: readonly WireAny[]
  readonly age: { readonly seconds: number } | null
  readonly best: boolean
  readonly isWithdraw: boolean
  readonly family: WireFamily | null
  readonly sourceAsn: number
  readonly sourceId: string
  readonly stale: boolean
  readonly neighborIp: string
  readonly isNexthopInvalid: boolean
}
export interface WireRange {
  readonly ipPrefix: string
  readonly maskLengthMin: number
  readonly maskLengthMax: number
}
export interface WireDefinedSet {
  readonly definedType: number
  readonly name: string
  readonly list: readonly string[]
  readonly prefixes: readonly WireRange[]
}
export interface WireStatement {
  readonly name: string
  readonly conditions: {
    readonly prefixSet: { readonly type: number; readonly name: string } | null
    readonly neighborSet: { readonly type: number; readonly name: string } | null
    readonly routeType: number
  } | null
  readonly actions: {
    readonly routeAction: number
    readonly med: { readonly type: number; readonly value: number } | null
  } | null
}
export interface WirePolicy {
  readonly name: string
  readonly statements: readonly WireStatement[]
}
export interface WireAssignment {
  readonly name: string
  readonly direction: number
  readonly policies: readonly WirePolicy[]
  readonly defaultAction: number
}
export interface WireEvent {
  readonly peer: { readonly type: number; readonly peer: WirePeer | null } | null
  readonly table: { readonly paths: readonly WirePath[] } | null
}

/** Every message that is encoded or decoded by itself, by its name in proto.ts. */
export interface Messages {
  Empty: object
  StartBgpRequest: { readonly global: WireGlobal | null }
  GetBgpResponse: { readonly global: WireGlobal | null }
  AddPeerRequest: { readonly peer: WirePeer | null }
  UpdatePeerRequest: { readonly peer: WirePeer | null }
  DeletePeerRequest: { readonly address: string }
  ListPeerRequest: { readonly address: string; readonly enableAdvertised: boolean }
  ListPeerResponse: { readonly peer: WirePeer | null }
  ResetPeerRequest: { readonly address: string; readonly soft: boolean; readonly direction: number }
  AddPathRequest: { readonly tableType: number; readonly path: WirePath | null }
  AddPathResponse: { readonly uuid: Uint8Array }
  AddPathStreamRequest: { readonly tableType: number; readonly paths: readonly WirePath[] }
  DeletePathRequest: {
    readonly tableType: number
    readonly family: WireFamily | null
    readonly path: WirePath | null
  }
  ListPathRequest: {
    readonly tableType: number
    readonly name: string
    readonly family: WireFamily | null
    readonly prefixes: readonly { readonly prefix: string; readonly type: number }[]
  }
  ListPathResponse: { readonly destination: { readonly paths: readonly WirePath[] } | null }
  WatchEventRequest: {
    readonly peer: object | null
    readonly table: { readonly filters: readonly { readonly type: number; readonly init: boolean }[] } | null
    readonly batchSize: number
  }
  WatchEventResponse: WireEvent
  AddDefinedSetRequest: { readonly definedSet: WireDefinedSet | null }
  DeleteDefinedSetRequest: { readonly definedSet: WireDefinedSet | null; readonly all: boolean }
  ListDefinedSetRequest: { readonly definedType: number; readonly name: string }
  ListDefinedSetResponse: { readonly definedSet: WireDefinedSet | null }
  AddPolicyRequest: { readonly policy: WirePolicy | null; readonly referExistingStatements: boolean }
  DeletePolicyRequest: {
    readonly policy: WirePolicy | null
    readonly preserveStatements: boolean
    readonly all: boolean
  }
  ListPolicyRequest: { readonly name: string }
  ListPolicyResponse: { readonly policy: WirePolicy | null }
  DeleteStatementRequest: { readonly statement: WireStatement | null; readonly all: boolean }
  ListStatementRequest: { readonly name: string }
  ListStatementResponse: { readonly statement: WireStatement | null }
  SetPolicyAssignmentRequest: { readonly assignment: WireAssignment | null }
  ListPolicyAssignmentRequest: { readonly name: string; readonly direction: number }
  ListPolicyAssignmentResponse: { readonly assignment: WireAssignment | null }
  // Packed into an Any:
  IPAddressPrefix: { readonly prefixLen: number; readonly prefix: string }
  OriginAttribute: { readonly origin: number }
  AsPathAttribute: {
    readonly segments: readonly { readonly type: number; readonly numbers: readonly number[] }[]
  }
  NextHopAttribute: { readonly nextHop: string }
  MultiExitDiscAttribute: { readonly med: number }
  LocalPrefAttribute: { readonly localPref: number }
  CommunitiesAttribute: { readonly communities: readonly number[] }
  OriginatorIdAttribute: { readonly id: string }
  ClusterListAttribute: { readonly ids: readonly string[] }
  MpReachNLRIAttribute: {
    readonly family: WireFamily | null
    readonly nextHops: readonly string[]
    readonly nlris: readonly WireAny[]
  }
  MultiProtocolCapability: { readonly family: WireFamily | null }
  GracefulRestartCapability: { readonly flags: number; readonly time: number }
}
export type MessageName = keyof Messages
