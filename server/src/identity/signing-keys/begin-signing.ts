import { write, type WriteContext } from '../../db/index.ts';
import { generateSealedKey } from './create-signing-key.ts';
import { type Algorithm, knownFrom } from './signing-key.ts';
import {
  activateKey,
  findPublishedKeys,
  insertSigningKey,
  lockCurrentKeys,
  notifyKeysChanged,
  type SigningKeyRow,
} from './signing-keys.sql.ts';

/**
 * Lets the first key of an algorithm that was set later sign, once it has been published for so long that every verifier knows it:
 * of these, or of all that have none that signs.
 */
export async function beginSigning(
  context: WriteContext,
  algorithms: readonly Algorithm[] | 'all',
): Promise<void> {
  const now = context.clock.now();
  const due = findDue(await findPublishedKeys(context.db), now);
  for (const algorithm of due.filter((one) => algorithms === 'all' || algorithms.includes(one)))
    await begin(context, algorithm);
}

function findDue(rows: readonly SigningKeyRow[], now: Date): Algorithm[] {
  const signing = new Set(rows.filter(({ state }) => state === 'active').map(({ algorithm }) => algorithm));
  return rows
    .filter((row) => row.state === 'next' && !signing.has(row.algorithm) && knownFrom(row.createdAt) <= now)
    .map(({ algorithm }) => algorithm);
}

/** Several processes may do so at once: the first one does. */
async function begin(context: WriteContext, algorithm: Algorithm): Promise<void> {
  const { jwk, sealed } = await generateSealedKey(context, algorithm);
  await write(context, async (sql, now) => {
    const rows = await lockCurrentKeys(sql, algorithm);
    const [first] = rows;
    if (!first || findDue(rows, now).length === 0) return { result: undefined, audit: null };
    await activateKey(sql, { kid: first.kid, now });
    await insertSigningKey(sql, { state: 'next', jwk, sealed, now });
    await notifyKeysChanged(sql);
    const data = { algorithm, next: jwk.kid };
    return {
      result: undefined,
      audit: { action: 'signing_key.activated', resource: first.kid, data, scope: 'instance' },
    };
  });
}
