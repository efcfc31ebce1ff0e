import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { createVerifier } from 'fast-jwt';
import { createLocalJWKSet, type JWK, jwtVerify } from 'jose';
import type { SigningKeys } from '../../server/src/identity/signing-keys/signing-keys.ts';
import { createTokens } from '../../server/src/identity/tokens/tokens.ts';

/** Verifies access tokens with one library, on one key, for some seconds, and says how many: `<library> <algorithm> <seconds>`. */
const issuer = 'http://localhost:8080';
const agentId = '019aaaaa-0000-7000-8000-000000000000' as Parameters<typeof tokens.issueAgentToken>[0];
const [library = '', algorithm = '', seconds = ''] = process.argv.slice(2);
if (algorithm !== 'RS256' && algorithm !== 'ES256') throw new Error(`no such algorithm: ${algorithm}`);

const pair =
  algorithm === 'RS256'
    ? generateKeyPairSync('rsa', { modulusLength: 2048 })
    : generateKeyPairSync('ec', { namedCurve: 'P-256' });
const kid = 'key';
const keys: Pick<SigningKeys, 'getSigner' | 'findKey' | 'findNewKey'> = {
  getSigner: () => ({ kid, algorithm, privateKey: pair.privateKey }),
  findKey: (id) => (id === kid ? { kid, algorithm, publicKey: pair.publicKey } : undefined),
  findNewKey: async () => undefined,
};
const tokens = createTokens(keys, issuer, { 'at+jwt': algorithm, 'vc+jwt': algorithm });

/** All three check signature, algorithm, type, issuer, audience and times, and remember no token. */
const libraries: Record<string, (token: string) => unknown> = {
  credence: verifyWithCredence,
  jose: verifyWithJose(pair.publicKey),
  'fast-jwt': createVerifier({
    key: pair.publicKey.export({ format: 'pem', type: 'spki' }),
    algorithms: [algorithm],
    allowedIss: issuer,
    allowedAud: issuer,
    checkTyp: 'at+jwt',
    cache: false,
  }) as (token: string) => unknown,
};

async function verifyWithCredence(token: string): Promise<void> {
  const found = await tokens.verifyAgentToken(token, new Date());
  if (found === undefined) throw new Error('refused');
}

function verifyWithJose(publicKey: KeyObject): (token: string) => unknown {
  const jwk = { ...publicKey.export({ format: 'jwk' }), kid, alg: algorithm, use: 'sig' } as JWK;
  const set = createLocalJWKSet({ keys: [jwk] });
  const rules = { issuer, audience: issuer, typ: 'at+jwt', algorithms: [algorithm] };
  return (token) => jwtVerify(token, set, rules);
}

const verify = libraries[library];
if (!verify) throw new Error(`no such library: ${library}`);
const all = await Promise.all(Array.from({ length: 500 }, () => tokens.issueAgentToken(agentId, new Date())));
const ends = (ms: number) => performance.now() + ms;

/** 16 in flight, for the library that hands its work to threads; the others take them one by one. */
async function run(ms: number): Promise<number> {
  const end = ends(ms);
  let count = 0;
  async function take(): Promise<void> {
    for (let index = 0; performance.now() < end; index = (index + 1) % all.length) {
      await verify?.(all[index] ?? '');
      count += 1;
    }
  }
  await Promise.all(Array.from({ length: 16 }, take));
  return count;
}

await run(500);
const [cpu, started] = [process.cpuUsage(), performance.now()];
const count = await run(Number(seconds) * 1000);
const { user, system } = process.cpuUsage(cpu);
const wallSeconds = (performance.now() - started) / 1000;
console.log(JSON.stringify({ count, wallSeconds, cpuSeconds: (user + system) / 1e6 }));
