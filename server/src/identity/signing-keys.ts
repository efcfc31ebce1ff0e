import { createHash, createPrivateKey, createPublicKey, generateKeyPair, type KeyObject } from 'node:crypto';
import { promisify } from 'node:util';
import { type Sql, write, type WriteContext } from '../db/index.ts';
import type { SecretBox } from '../kernel/crypto.ts';

/** The public half, as RFC 7517 publishes it. */
export interface PublicJwk {
  kty: 'RSA';
  n: string;
  e: string;
  kid: string;
  alg: 'RS256';
  use: 'sig';
}

/** The instance's keys for tokens: one signs, all verify. */
export interface SigningKeys {
  active: { kid: string; privateKey: KeyObject };
  findPublicKey(kid: string): KeyObject | undefined;
  jwks(): { keys: PublicJwk[] };
}

interface SigningKeyRow {
  kid: string;
  state: 'active' | 'retiring';
  publicJwk: PublicJwk;
  privateKey: Buffer;
}

const generate = promisify(generateKeyPair);

/** Loads the instance's keys, and makes the first one. Several processes may start at once: one key wins. */
export async function loadSigningKeys(context: WriteContext): Promise<SigningKeys> {
  let rows = await findSigningKeys(context.db);
  if (!rows.some((row) => row.state === 'active')) {
    await createSigningKey(context);
    rows = await findSigningKeys(context.db);
  }
  return openSigningKeys(rows, context.box);
}

async function createSigningKey(context: WriteContext): Promise<void> {
  const { publicKey, privateKey } = await generate('rsa', { modulusLength: 2048 });
  const { n = '', e = '' } = publicKey.export({ format: 'jwk' });
  const kid = thumbprint(n, e);
  const jwk: PublicJwk = { kty: 'RSA', n, e, kid, alg: 'RS256', use: 'sig' };
  const sealed = context.box.seal(privateKey.export({ format: 'der', type: 'pkcs8' }), rowName(kid));
  await write(context, async (sql, now) => {
    const inserted = await sql.query(
      `INSERT INTO signing_keys (kid, algorithm, state, public_jwk, private_key, created_at)
       VALUES ($1, 'RS256', 'active', $2, $3, $4) ON CONFLICT DO NOTHING RETURNING kid`,
      [kid, JSON.stringify(jwk), sealed, now],
    );
    const audit = { action: 'signing_key.created', resource: kid, scope: 'instance' as const };
    return { result: undefined, audit: inserted.length > 0 ? audit : null };
  });
}

function openSigningKeys(rows: readonly SigningKeyRow[], box: SecretBox): SigningKeys {
  const active = rows.find((row) => row.state === 'active');
  if (!active) throw new Error('no active signing key after one was created');
  const der = box.open(active.privateKey, rowName(active.kid));
  const publicKeys = new Map(
    rows.map((row) => [row.kid, createPublicKey({ key: { ...row.publicJwk }, format: 'jwk' })]),
  );
  return {
    active: { kid: active.kid, privateKey: createPrivateKey({ key: der, format: 'der', type: 'pkcs8' }) },
    findPublicKey: (kid) => publicKeys.get(kid),
    jwks: () => ({ keys: rows.map((row) => row.publicJwk) }),
  };
}

/** RFC 7638: SHA-256 over the required members in lexicographic order. */
function thumbprint(n: string, e: string): string {
  return createHash('sha256')
    .update(JSON.stringify({ e, kty: 'RSA', n }))
    .digest('base64url');
}

function rowName(kid: string): string {
  return `signing_keys/${kid}/private_key`;
}

async function findSigningKeys(sql: Sql): Promise<SigningKeyRow[]> {
  return sql.query<SigningKeyRow>(
    'SELECT kid, state, public_jwk, private_key FROM signing_keys ORDER BY created_at DESC',
  );
}
