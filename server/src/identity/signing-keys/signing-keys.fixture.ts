import { createPrivateKey, type KeyObject } from 'node:crypto';
import type { WriteContext } from '../../db/index.ts';
import { privateKeyOf } from './signing-keys.sql.ts';

/** The private half of a key that signs or will, as only somebody who has broken in would see it. */
export async function stealPrivateKey(context: WriteContext, kid: string): Promise<KeyObject> {
  const [row] = await context.db.query<{ privateKey: Buffer }>(
    'SELECT private_key FROM signing_keys WHERE kid = $1',
    [kid],
  );
  if (!row) throw new Error(`no key ${kid}`);
  const key = context.box.open(row.privateKey, privateKeyOf(kid));
  return createPrivateKey({ key, format: 'der', type: 'pkcs8' });
}
