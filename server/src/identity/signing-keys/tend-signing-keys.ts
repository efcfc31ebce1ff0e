import { write, type WriteContext } from '../../db/index.ts';
import { beginSigning } from './begin-signing.ts';
import { createSigningKeys } from './create-signing-key.ts';
import { endRetiredKey, findPublishedKeys, notifyKeysChanged } from './signing-keys.sql.ts';

/**
 * The worker's step: lets a key of an algorithm that was set later sign when its time has come, publishes a next key where there is
 * none, and ends retired keys whose last signature has expired.
 */
export async function tendSigningKeys(context: WriteContext): Promise<void> {
  await beginSigning(context, 'all');
  const rows = await findPublishedKeys(context.db);
  const missing = rows
    .filter((row) => row.state === 'active')
    .filter(({ algorithm }) => !rows.some((row) => row.state === 'next' && row.algorithm === algorithm));
  await createSigningKeys(
    context,
    missing.map(({ algorithm }) => ({ algorithm, state: 'next' })),
  );
  while (await endOne(context));
}

async function endOne(context: WriteContext): Promise<boolean> {
  return write(context, async (sql, now) => {
    const kid = await endRetiredKey(sql, now);
    if (kid === undefined) return { result: false, audit: null };
    await notifyKeysChanged(sql);
    return { result: true, audit: { action: 'signing_key.ended', resource: kid, scope: 'instance' } };
  });
}
