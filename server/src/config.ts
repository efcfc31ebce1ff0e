import { isIP } from 'node:net';
import { resolve } from 'node:path';
import { type ChainConfig, chainOf } from './chain-settings.ts';
import { sha256 } from './kernel/crypto.ts';
import { type EgressAllow, parseEgressAllow } from './kernel/egress.ts';
import { limits } from './kernel/limits.ts';
import { StartupError } from './kernel/startup-error.ts';
import { countOf, type Environment, oneOf, originOf, portOf, textOf, usdcOf } from './setting-values.ts';
import type { OwedLimits } from './x402/index.ts';

export type { ChainConfig };

/** What a process does; each role may run many times over one database. */
export type Role = 'control' | 'gateway' | 'worker';

/** RFC 7518 section 3.1 and RFC 8037 name them so. */
type SignatureAlgorithm = 'RS256' | 'ES256' | 'EdDSA';

/** Everything that is set from outside, read once. Nothing else reads the environment. */
export interface Config {
  readonly mode: 'development' | 'production';
  readonly roles: ReadonlySet<Role>;
  /** Addresses to listen on. */
  readonly hosts: readonly string[];
  readonly port: number;
  readonly gatewayPort: number;
  readonly dataDirectory: string;
  /** Absent: the embedded database. */
  readonly databaseUrl: string | undefined;
  /** Absent: made once and kept in the data directory. */
  readonly masterKey: Buffer | undefined;
  /** As callers reach the two planes, without a trailing slash. The first is the tokens' issuer. */
  readonly publicUrl: string;
  readonly gatewayUrl: string;
  readonly developmentPrincipal: boolean;
  /** What signs access tokens, and what signs credentials for third parties. */
  readonly signatures: { readonly tokens: SignatureAlgorithm; readonly credentials: SignatureAlgorithm };
  /** Whether proofs of possession must carry a nonce of ours (RFC 9449 section 8). */
  readonly dpopNonces: boolean;
  /** SHA-256 of the key that whoever runs the instance shows; absent, nobody does but the development principal. */
  readonly operatorKeyHash: Buffer | undefined;
  readonly egressAllow: EgressAllow;
  /** Whose `X-Forwarded-For` is believed: addresses and CIDR blocks of TLS-terminating proxies. */
  readonly trustedProxies: readonly string[];
  /** How many payments the facilitator settles for one environment a day: the operator pays their gas. */
  readonly facilitatorSettlementsPerDay: number;
  readonly logLevel: 'debug' | 'error' | 'info' | 'warn';
  /** Of paid answers that a gateway's process holds at once. */
  readonly answerMemoryMib: number;
  /** How much may be owed by payments that were answered before they are settled. */
  readonly owedMax: OwedLimits;
  /** Absent: the embedded chain in development, and no payments in that half otherwise. */
  readonly chains: {
    readonly sandbox: ChainConfig | undefined;
    readonly production: ChainConfig | undefined;
  };
}

const known = new Set([
  'CREDENCE_ANSWER_MEMORY_MIB',
  'CREDENCE_MODE',
  'CREDENCE_ROLES',
  'CREDENCE_HOST',
  'CREDENCE_DATA_DIR',
  'CREDENCE_MASTER_KEY',
  'CREDENCE_PUBLIC_URL',
  'CREDENCE_GATEWAY_URL',
  'CREDENCE_DEV_PRINCIPAL',
  'CREDENCE_DPOP_NONCE',
  'CREDENCE_TOKEN_ALGORITHM',
  'CREDENCE_CREDENTIAL_ALGORITHM',
  'CREDENCE_OPERATOR_KEY',
  'CREDENCE_EGRESS_ALLOW',
  'CREDENCE_TRUSTED_PROXIES',
  'CREDENCE_FACILITATOR_SETTLEMENTS_PER_DAY',
  'CREDENCE_LOG_LEVEL',
  'CREDENCE_OWED_MAX',
  'CREDENCE_OWED_MAX_PER_SERVER',
  'CREDENCE_OWED_MAX_PER_PAYER',
  'CREDENCE_SANDBOX_RPC_URL',
  'CREDENCE_SANDBOX_RELAYER_KEY',
  'CREDENCE_SANDBOX_REORG_DEPTH',
  'CREDENCE_SANDBOX_BATCH_CONTRACT',
  'CREDENCE_PRODUCTION_RPC_URL',
  'CREDENCE_PRODUCTION_RELAYER_KEY',
  'CREDENCE_PRODUCTION_REORG_DEPTH',
  'CREDENCE_PRODUCTION_BATCH_CONTRACT',
]);

const loopbackHosts = ['127.0.0.1', '::1'];

/** Reads the settings. Throws `StartupError` naming the first that is wrong, missing or unknown. */
export function readConfig(env: Environment): Config {
  const unknown = Object.keys(env).find((name) => name.startsWith('CREDENCE_') && !known.has(name));
  if (unknown !== undefined)
    throw new StartupError(`${unknown} is not a setting of this version; README.md lists them`);

  const mode = oneOf(env, 'CREDENCE_MODE', ['development', 'production'], 'development');
  const port = portOf(env, 'PORT', 8080);
  const gatewayPort = portOf(env, 'GATEWAY_PORT', 8402);
  if (port === gatewayPort) throw new StartupError('PORT and GATEWAY_PORT must differ');
  const host = textOf(env, 'CREDENCE_HOST');
  const developmentPrincipal =
    mode === 'development' && oneOf(env, 'CREDENCE_DEV_PRINCIPAL', ['on', 'off'], 'on') === 'on';
  if (developmentPrincipal && host !== undefined && !loopbackHosts.includes(host)) {
    throw new StartupError(
      `CREDENCE_HOST=${host} can be reached from other machines: set CREDENCE_DEV_PRINCIPAL=off with it`,
    );
  }
  const config: Config = {
    mode,
    roles: rolesOf(env),
    hosts: host === undefined ? loopbackHosts : [host],
    port,
    gatewayPort,
    dataDirectory: resolve(env['CREDENCE_DATA_DIR'] || '.credence'),
    databaseUrl: databaseUrlOf(env),
    masterKey: masterKeyOf(env),
    publicUrl: originOf(env, 'CREDENCE_PUBLIC_URL', mode) ?? `http://localhost:${port}`,
    gatewayUrl: originOf(env, 'CREDENCE_GATEWAY_URL', mode) ?? `http://localhost:${gatewayPort}`,
    developmentPrincipal,
    signatures: {
      tokens: algorithmOf(env, 'CREDENCE_TOKEN_ALGORITHM'),
      credentials: algorithmOf(env, 'CREDENCE_CREDENTIAL_ALGORITHM'),
    },
    dpopNonces: oneOf(env, 'CREDENCE_DPOP_NONCE', ['on', 'off'], 'off') === 'on',
    operatorKeyHash: operatorKeyHashOf(env),
    egressAllow: parseEgressAllow(env['CREDENCE_EGRESS_ALLOW']),
    trustedProxies: trustedProxiesOf(env),
    facilitatorSettlementsPerDay: countOf(
      env,
      'CREDENCE_FACILITATOR_SETTLEMENTS_PER_DAY',
      limits.facilitatorSettlementsPerDay,
    ),
    logLevel: oneOf(
      env,
      'CREDENCE_LOG_LEVEL',
      ['debug', 'error', 'info', 'warn'],
      mode === 'production' ? 'info' : 'warn',
    ),
    answerMemoryMib: answerMemoryOf(env),
    owedMax: {
      inAll: usdcOf(env, 'CREDENCE_OWED_MAX', limits.owedAtomic.inAll),
      byServer: usdcOf(env, 'CREDENCE_OWED_MAX_PER_SERVER', limits.owedAtomic.byServer),
      byPayer: usdcOf(env, 'CREDENCE_OWED_MAX_PER_PAYER', limits.owedAtomic.byPayer),
    },
    chains: { sandbox: chainOf(env, 'SANDBOX'), production: chainOf(env, 'PRODUCTION') },
  };
  if (mode === 'production') demandProductionSettings(config);
  return Object.freeze(config);
}

function demandProductionSettings(config: Config): void {
  if (config.databaseUrl === undefined)
    throw new StartupError('production mode needs DATABASE_URL: a PostgreSQL 15 or newer');
  if (config.masterKey === undefined)
    throw new StartupError('production mode needs CREDENCE_MASTER_KEY: 64 hexadecimal digits');
}

function algorithmOf(env: Environment, name: string): SignatureAlgorithm {
  return oneOf(env, name, ['RS256', 'ES256', 'EdDSA'], 'RS256');
}

/** Without room for one answer of the largest size, nothing could be sold. */
function answerMemoryOf(env: Environment): number {
  const mib = countOf(env, 'CREDENCE_ANSWER_MEMORY_MIB', limits.answerMemoryMib);
  const least = limits.storedResponseBytes / 1024 / 1024;
  if (mib < least) throw new StartupError(`CREDENCE_ANSWER_MEMORY_MIB=${mib} must be at least ${least}`);
  return mib;
}

function rolesOf(env: Environment): ReadonlySet<Role> {
  const all: readonly Role[] = ['control', 'gateway', 'worker'];
  const text = textOf(env, 'CREDENCE_ROLES');
  if (text === undefined) return new Set(all);
  return new Set(
    text.split(',').map((name) => {
      const role = all.find((candidate) => candidate === name.trim());
      if (role === undefined)
        throw new StartupError(
          `CREDENCE_ROLES=${text} must be some of ${all.join(', ')}, separated by commas`,
        );
      return role;
    }),
  );
}

function trustedProxiesOf(env: Environment): string[] {
  const text = textOf(env, 'CREDENCE_TRUSTED_PROXIES');
  if (text === undefined) return [];
  const blocks = text.split(',').map((block) => block.trim());
  for (const block of blocks) {
    const [address = '', bits] = block.split('/');
    const bitsMax = isIP(address) === 4 ? 32 : 128;
    const isBlock = bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= bitsMax);
    if (isIP(address) === 0 || !isBlock)
      throw new StartupError(
        `CREDENCE_TRUSTED_PROXIES: ${block} must be an address or a CIDR block, such as 10.0.0.0/8`,
      );
  }
  return blocks;
}

/** The value isn't repeated where it is refused: it holds a password. */
function databaseUrlOf(env: Environment): string | undefined {
  const text = textOf(env, 'DATABASE_URL');
  if (text === undefined) return undefined;
  if (!/^postgres(?:ql)?:$/.test(URL.parse(text)?.protocol ?? ''))
    throw new StartupError('DATABASE_URL must be like postgres://user:password@host:5432/database');
  return text;
}

function masterKeyOf(env: Environment): Buffer | undefined {
  const text = textOf(env, 'CREDENCE_MASTER_KEY');
  if (text === undefined) return undefined;
  if (!/^[0-9a-fA-F]{64}$/.test(text))
    throw new StartupError(
      'CREDENCE_MASTER_KEY must be 64 hexadecimal digits, such as from "openssl rand -hex 32"',
    );
  return Buffer.from(text, 'hex');
}

/** The value isn't repeated where it is refused. */
function operatorKeyHashOf(env: Environment): Buffer | undefined {
  const text = textOf(env, 'CREDENCE_OPERATOR_KEY');
  if (text === undefined) return undefined;
  if (!/^[\x21-\x7e]{32,512}$/.test(text))
    throw new StartupError(
      'CREDENCE_OPERATOR_KEY must be 32 or more visible characters, such as from "openssl rand -hex 32"',
    );
  return sha256(text);
}
