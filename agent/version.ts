// The version of package.json, put in by the bundler; "dev" when run from the sources.
declare const WARREN_VERSION: string | undefined

export const version: string = typeof WARREN_VERSION === 'undefined' ? 'dev' : WARREN_VERSION
