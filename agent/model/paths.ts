// Where warrend and warren find each other, by default. Apart from config.ts, so that `warren status` loads no schemas.
export const defaultConfigFile = '/etc/warren/warrend.yaml'
export const defaultSocket = '/run/warren/warrend.sock'
