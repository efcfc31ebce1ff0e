import { type AuditEntry, write, type WriteContext } from '../../db/index.ts';
import { type Algorithm, generateSigningKey } from './signing-key.ts';
import { insertSigningKey, notifyKeysChanged, privateKeyOf } from './signing-keys.sql.ts';

/**
 * Makes keys in the place of those that are missing, all of them at one moment. Several processes may do so at once: one key wins in
 * each place.
 */
export async function createSigningKeys(
  context: WriteContext,
  missing: readonly { algorithm: Algorithm; state: 'active' | 'next' }[],
): Promise<void> {
  if (missing.length === 0) return;
  const made = await Promise.all(
    missing.map(async (one) => ({ ...one, ...(await generateSealedKey(context, one.algorithm)) })),
  );
  await write(context, async (sql, now) => {
    const audits: AuditEntry[] = [];
    // In one order, so that two processes don't wait for each other's in a ring.
    for (const { algorithm, state, jwk, sealed } of made.toSorted(byAlgorithm)) {
      if (!(await insertSigningKey(sql, { state, jwk, sealed, now }))) continue;
      const data = { algorithm, state };
      audits.push({ action: 'signing_key.created', resource: jwk.kid, data, scope: 'instance' });
    }
    if (audits.length > 0) await notifyKeysChanged(sql);
    return { result: undefined, audit: audits };
  });
}

function byAlgorithm(one: { algorithm: Algorithm }, other: { algorithm: Algorithm }): number {
  return one.algorithm < other.algorithm ? -1 : 1;
}

/** A new key pair, its private half sealed to its row. */
export async function generateSealedKey(context: Pick<WriteContext, 'box'>, algorithm: Algorithm) {
  const { jwk, privateKey } = await generateSigningKey(algorithm);
  const sealed = context.box.seal(privateKey.export({ format: 'der', type: 'pkcs8' }), privateKeyOf(jwk.kid));
  return { jwk, sealed };
}
