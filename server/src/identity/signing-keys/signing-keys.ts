import { createPrivateKey } from 'node:crypto';
import type { WriteContext } from '../../db/index.ts';
import type { SecretBox } from '../../kernel/crypto.ts';
import { AppError } from '../../kernel/errors.ts';
import { beginSigning } from './begin-signing.ts';
import { createSigningKeys } from './create-signing-key.ts';
import {
  type Algorithm,
  openPublicJwk,
  type PublicJwk,
  type SigningKey,
  type VerifyingKey,
} from './signing-key.ts';
import { findPublishedKeys, privateKeyOf, type SigningKeyRow } from './signing-keys.sql.ts';

/** The instance's keys as this process knows them: one signs for each algorithm, all of them verify. */
export interface SigningKeys {
  /**
   * The key that signs where this algorithm is set. While its first key is published, and not yet known to every verifier, that is
   * the key of another algorithm, which signed until now. Throws where no setting asked for this algorithm.
   */
  getSigner(algorithm: Algorithm): SigningKey;
  /** The key of that id, as far as this process knows. */
  findKey(kid: string): VerifyingKey | undefined;
  /**
   * The key of an id that this process doesn't know: looks once into the database, together with whoever asks at the same time, and
   * not again before `searchCooldownMs` is over, so that made-up ids cost nothing.
   */
  findNewKey(kid: string): Promise<VerifyingKey | undefined>;
  /** Reads the keys again: after a notification, and at intervals behind it. */
  reload(): Promise<void>;
  /** RFC 7517, what verifiers may use now: the next key with them. */
  jwks(): { keys: PublicJwk[] };
  /** The public half of the RSA key that signs, as PEM (RFC 7468). Throws `not_found` where all settings are for other algorithms. */
  getPem(): string;
}

/** A look into one small table: often enough for a rotation whose notification was lost, and nothing under a flood. */
const searchCooldownMs = 1_000;

/**
 * Loads the instance's keys, and makes the first of each algorithm that the settings ask for. Those of an instance that never signed
 * sign at once: no verifier has read its keys. Later, verifiers keep what they have read, and a key is published before it signs.
 */
export async function loadSigningKeys(
  context: WriteContext,
  needed: readonly Algorithm[],
): Promise<SigningKeys> {
  const rows = await findPublishedKeys(context.db);
  const state = rows.some((row) => row.state === 'active') ? 'next' : 'active';
  const missing = [...new Set(needed)].filter(
    (algorithm) => !rows.some((row) => row.state !== 'retiring' && row.algorithm === algorithm),
  );
  await createSigningKeys(
    context,
    missing.map((algorithm) => ({ algorithm, state })),
  );
  // Where no worker runs, or this process begins before its first step.
  await beginSigning(context, needed);
  const keys = followSigningKeys(context, needed);
  await keys.reload();
  for (const algorithm of needed) keys.getSigner(algorithm);
  return keys;
}

/** What was read at one moment. */
interface KeyRing {
  signers: ReadonlyMap<Algorithm, SigningKey>;
  /** What signs in the place of an algorithm whose first key may not sign yet. */
  former: SigningKey | undefined;
  verifiers: ReadonlyMap<string, VerifyingKey>;
  jwks: { keys: PublicJwk[] };
}

function followSigningKeys(context: WriteContext, needed: readonly Algorithm[]): SigningKeys {
  let ring: KeyRing = { signers: new Map(), former: undefined, verifiers: new Map(), jwks: { keys: [] } };
  let running: Promise<void> | undefined;
  let again = false;
  let search: Promise<void> | undefined;
  let searchedAtMs = Number.NEGATIVE_INFINITY;

  async function read(): Promise<void> {
    try {
      do {
        again = false;
        ring = openRing(await findPublishedKeys(context.db), context.box, needed);
      } while (again);
    } finally {
      // Here, not in a later turn: a reload that is asked for in between would be forgotten.
      running = undefined;
    }
  }

  function reload(): Promise<void> {
    // What is being read may be from before the change that this call was told of.
    if (running) again = true;
    return (running ??= read());
  }

  return {
    getSigner(algorithm) {
      const key = ring.signers.get(algorithm) ?? (needed.includes(algorithm) ? ring.former : undefined);
      if (!key) throw new Error(`there is no active signing key of ${algorithm}`);
      return key;
    },
    findKey: (kid) => ring.verifiers.get(kid),
    async findNewKey(kid) {
      const nowMs = performance.now();
      if (nowMs - searchedAtMs >= searchCooldownMs) {
        searchedAtMs = nowMs;
        search = reload();
      }
      await search;
      return ring.verifiers.get(kid);
    },
    reload,
    jwks: () => ring.jwks,
    getPem() {
      const key = ring.verifiers.get(ring.signers.get('RS256')?.kid ?? '');
      if (!key)
        throw new AppError('not_found', 'No RSA key signs here; GET /.well-known/jwks.json lists the keys');
      return key.publicKey.export({ format: 'pem', type: 'spki' });
    },
  };
}

function openRing(rows: readonly SigningKeyRow[], box: SecretBox, needed: readonly Algorithm[]): KeyRing {
  const signers = rows.flatMap(({ state, kid, algorithm, privateKey }): SigningKey[] => {
    if (state !== 'active' || !privateKey) return [];
    const key = createPrivateKey({
      key: box.open(privateKey, privateKeyOf(kid)),
      format: 'der',
      type: 'pkcs8',
    });
    return [{ kid, algorithm, privateKey: key }];
  });
  return {
    signers: new Map(signers.map((key) => [key.algorithm, key])),
    // One that no setting asks for any more is what signed before the settings changed.
    former: signers.find(({ algorithm }) => !needed.includes(algorithm)) ?? signers[0],
    verifiers: new Map(rows.map((row) => [row.kid, openPublicJwk(row.publicJwk)])),
    jwks: { keys: rows.map((row) => row.publicJwk) },
  };
}
