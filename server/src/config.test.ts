import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { sha256 } from './kernel/crypto.ts';
import { readConfig } from './config.ts';
import { StartupError } from './kernel/startup-error.ts';

const key = 'ab'.repeat(32);
const production = {
  CREDENCE_MODE: 'production',
  DATABASE_URL: 'postgres://database.example/credence',
  CREDENCE_MASTER_KEY: key,
  CREDENCE_PUBLIC_URL: 'https://credence.example',
  CREDENCE_GATEWAY_URL: 'https://pay.example',
};
const chain = { CREDENCE_SANDBOX_RPC_URL: 'http://127.0.0.1:8545', CREDENCE_SANDBOX_RELAYER_KEY: `0x${key}` };

/** What the operator reads when these settings are refused. */
function refusalOf(env: Record<string, string>): string {
  try {
    readConfig(env);
  } catch (error) {
    if (error instanceof StartupError) return error.message;
    throw error;
  }
  throw new Error('the settings were accepted');
}

describe('readConfig', () => {
  it('needs no setting in development: loopback, every role, the development principal, URLs of its ports', () => {
    expect(readConfig({})).toMatchObject({
      mode: 'development',
      roles: new Set(['control', 'gateway', 'worker']),
      hosts: ['127.0.0.1', '::1'],
      port: 8080,
      gatewayPort: 8402,
      dataDirectory: resolve('.credence'),
      databaseUrl: undefined,
      publicUrl: 'http://localhost:8080',
      gatewayUrl: 'http://localhost:8402',
      developmentPrincipal: true,
      signatures: { tokens: 'RS256', credentials: 'RS256' },
    });
  });

  it('signs tokens and credentials with what is set for each', () => {
    const set = { CREDENCE_TOKEN_ALGORITHM: 'ES256', CREDENCE_CREDENTIAL_ALGORITHM: 'EdDSA' };
    expect(readConfig(set).signatures).toEqual({ tokens: 'ES256', credentials: 'EdDSA' });
  });

  it('takes a setting that is empty for one that is absent', () => {
    const names = [
      'PORT',
      'CREDENCE_MODE',
      'CREDENCE_ROLES',
      'CREDENCE_HOST',
      'DATABASE_URL',
      ...Object.keys(chain),
    ];
    const empty = Object.fromEntries(names.map((name) => [name, '']));
    expect(readConfig(empty)).toEqual(readConfig({}));
  });

  it('reads what is set', () => {
    const set = {
      PORT: '81',
      GATEWAY_PORT: '82',
      CREDENCE_ROLES: 'worker, control',
      CREDENCE_DATA_DIR: '/data',
      CREDENCE_TRUSTED_PROXIES: '10.0.0.0/8, fd00::1',
    };
    expect(readConfig({ ...set, ...chain })).toMatchObject({
      port: 81,
      gatewayPort: 82,
      roles: new Set(['control', 'worker']),
      dataDirectory: '/data',
      trustedProxies: ['10.0.0.0/8', 'fd00::1'],
      publicUrl: 'http://localhost:81',
      chains: { sandbox: { rpcUrl: 'http://127.0.0.1:8545', relayerKey: `0x${key}` }, production: undefined },
    });
  });

  it('cannot be changed once it is read', () => {
    expect(Object.isFrozen(readConfig({}))).toBe(true);
  });

  it.each([
    ['PORT', '80a'],
    ['PORT', '0'],
    ['PORT', '65536'],
    ['PORT', '-1'],
    ['PORT', '8402'],
    ['GATEWAY_PORT', 'garbage'],
    ['CREDENCE_MODE', 'prod'],
    ['CREDENCE_ROLES', 'control,gatewy'],
    ['CREDENCE_HOST', '0.0.0.0'],
    ['CREDENCE_HOST', '10.0.0.1'],
    ['CREDENCE_HOST', 'localhost:80'],
    ['CREDENCE_MASTER_KEY', 'short'],
    ['CREDENCE_PUBLIC_URL', 'credence.example'],
    ['CREDENCE_PUBLIC_URL', 'http://credence.example/path'],
    ['CREDENCE_PUBLIC_URL', 'http://credence.example/?query'],
    ['CREDENCE_GATEWAY_URL', 'ftp://credence.example'],
    ['CREDENCE_DEV_PRINCIPAL', 'no'],
    ['CREDENCE_EGRESS_ALLOW', 'upstream=everything'],
    ['CREDENCE_EGRESS_ALLOW', 'upstream=169.254.169.254'],
    ['CREDENCE_TRUSTED_PROXIES', 'proxy.example'],
    ['CREDENCE_TRUSTED_PROXIES', '10.0.0.0/33'],
    ['CREDENCE_TRUSTED_PROXIES', '10.0.0.1,'],
    ['CREDENCE_TOKEN_ALGORITHM', 'none'],
    ['CREDENCE_CREDENTIAL_ALGORITHM', 'HS256'],
    ['CREDENCE_LOG_LEVEL', 'loud'],
    ['CREDENCE_SANDBOX_RPC_URL', 'http://127.0.0.1:8545'],
    ['CREDENCE_PRODUCTION_RELAYER_KEY', `0x${key}`],
    ['CREDENCE_SANDBOX_REORG_DEPTH', '12'],
    ['CREDENCE_SANDBOX_BATCH_CONTRACT', `0x${'ab'.repeat(20)}`],
    ['DATABASE_URL', 'database.example'],
    ['DATABASE_URL', 'mysql://database.example/credence'],
  ])('refuses %s=%s in one line that names it', (name, value) => {
    const refusal = refusalOf({ [name]: value });
    expect(refusal).toContain(name.replace(/_(RPC_URL|RELAYER_KEY|REORG_DEPTH|BATCH_CONTRACT)$/, ''));
    expect(refusal).not.toContain('\n');
  });

  it.each([
    [{}, undefined],
    [{ CREDENCE_SANDBOX_REORG_DEPTH: 'finalized' }, undefined],
    [{ CREDENCE_SANDBOX_REORG_DEPTH: '0' }, 0],
    [{ CREDENCE_SANDBOX_REORG_DEPTH: '64' }, 64],
  ])('takes %o as a depth to watch a chain to', (env, depth) => {
    expect(readConfig({ ...chain, ...env }).chains.sandbox?.reorgDepth).toBe(depth);
  });

  it.each(['deep', '-1', '10001', '1.5'])('refuses the depth %s', (depth) => {
    const refusal = refusalOf({ ...chain, CREDENCE_SANDBOX_REORG_DEPTH: depth });
    expect(refusal).toContain('CREDENCE_SANDBOX_REORG_DEPTH');
  });

  it('has batches settled by Multicall3, or by the contract that is named', () => {
    expect(readConfig(chain).chains.sandbox).not.toHaveProperty('batchContract');
    const batchContract = `0x${'ab'.repeat(20)}`;
    const config = readConfig({ ...chain, CREDENCE_SANDBOX_BATCH_CONTRACT: batchContract });
    expect(config.chains.sandbox).toMatchObject({ batchContract });
    const wrong = { ...chain, CREDENCE_SANDBOX_BATCH_CONTRACT: '0xab' };
    expect(refusalOf(wrong)).toContain('CREDENCE_SANDBOX_BATCH_CONTRACT');
  });

  it('keeps of an operator key its hash, and refuses one that could be guessed without repeating it', () => {
    const operatorKey = 'o'.repeat(32);
    const config = readConfig({ CREDENCE_OPERATOR_KEY: operatorKey });
    expect(config.operatorKeyHash).toEqual(sha256(operatorKey));
    expect(readConfig({}).operatorKeyHash).toBeUndefined();
    for (const bad of ['o'.repeat(31), `${'o'.repeat(32)} `, 'ö'.repeat(40)]) {
      const refusal = refusalOf({ CREDENCE_OPERATOR_KEY: bad });
      expect(refusal).toContain('CREDENCE_OPERATOR_KEY');
      expect(refusal).not.toContain(bad);
    }
  });

  it('refuses a relayer key that is not one, without repeating it', () => {
    const refusal = refusalOf({ ...chain, CREDENCE_SANDBOX_RELAYER_KEY: 'my secret' });
    expect(refusal).toContain('CREDENCE_SANDBOX_RELAYER_KEY');
    expect(refusal).not.toContain('my secret');
  });

  it('says one line of a value that has several', () => {
    expect(refusalOf({ CREDENCE_MODE: 'a\nb\r\nc' })).not.toMatch(/[\r\n]/);
  });

  it('refuses a setting that it does not know: a typing error must not go unheard', () => {
    expect(refusalOf({ CREDENCE_DATADIR: '/data' })).toContain('CREDENCE_DATADIR');
    expect(() => readConfig({ SOMEBODY_ELSES: 'variable' })).not.toThrow();
  });

  it('listens beyond loopback only with the development principal off', () => {
    const beyond = { CREDENCE_HOST: '0.0.0.0' };
    expect(refusalOf(beyond)).toContain('CREDENCE_DEV_PRINCIPAL=off');
    expect(readConfig({ ...beyond, CREDENCE_DEV_PRINCIPAL: 'off' })).toMatchObject({
      hosts: ['0.0.0.0'],
      developmentPrincipal: false,
    });
    expect(readConfig({ CREDENCE_HOST: '::1' })).toMatchObject({
      hosts: ['::1'],
      developmentPrincipal: true,
    });
  });
});

describe('production mode', () => {
  it('starts with its settings, and has no development principal, even where one is asked for', () => {
    const config = readConfig({ ...production, CREDENCE_DEV_PRINCIPAL: 'on' });
    expect(config).toMatchObject({ mode: 'production', developmentPrincipal: false, logLevel: 'info' });
    expect(config.publicUrl).toBe('https://credence.example');
    expect(config.masterKey).toEqual(Buffer.from(key, 'hex'));
  });

  it.each(Object.keys(production).filter((name) => name !== 'CREDENCE_MODE'))('demands %s', (name) => {
    const refusal = refusalOf(
      Object.fromEntries(Object.entries(production).filter(([other]) => other !== name)),
    );
    expect(refusal).toContain(name);
    expect(refusal).not.toContain('\n');
  });

  it.each(['CREDENCE_PUBLIC_URL', 'CREDENCE_GATEWAY_URL'])('demands %s in https', (name) => {
    expect(refusalOf({ ...production, [name]: 'http://credence.example' })).toContain(`${name}=`);
  });
});
