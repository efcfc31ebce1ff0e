import { write, type WriteContext } from '../../db/index.ts';
import { type Algorithm, generateSigningKey } from './signing-key.ts';
import { insertSigningKey, notifyKeysChanged, privateKeyOf } from './signing-keys.sql.ts';

/** Makes a key in the place of one that is missing. Several processes may do so at once: one key wins. */
export async function createSigningKey(
  context: WriteContext,
  args: { algorithm: Algorithm; state: 'active' | 'next' },
): Promise<void> {
  const { jwk, sealed } = await generateSealedKey(context, args.algorithm);
  await write(context, async (sql, now) => {
    const created = await insertSigningKey(sql, { state: args.state, jwk, sealed, now });
    if (created) await notifyKeysChanged(sql);
    const audit = {
      action: 'signing_key.created',
      resource: jwk.kid,
      data: { algorithm: args.algorithm, state: args.state },
      scope: 'instance' as const,
    };
    return { result: undefined, audit: created ? audit : null };
  });
}

/** A new key pair, its private half sealed to its row. */
export async function generateSealedKey(context: Pick<WriteContext, 'box'>, algorithm: Algorithm) {
  const { jwk, privateKey } = await generateSigningKey(algorithm);
  const sealed = context.box.seal(privateKey.export({ format: 'der', type: 'pkcs8' }), privateKeyOf(jwk.kid));
  return { jwk, sealed };
}
