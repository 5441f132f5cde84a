// Lets node load our TypeScript through ts-node: node --import ./test/support/register.mjs file.ts
import { register } from 'node:module'
import { pathToFileURL } from 'node:url'

process.env.TS_NODE_TRANSPILE_ONLY ??= '1'
register('ts-node/esm', pathToFileURL('./'))
