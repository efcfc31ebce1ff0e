import { write, type WriteContext } from '../../db/index.ts';
import { generateSealedKey } from './create-signing-key.ts';
import type { Algorithm } from './signing-key.ts';
import { dropKeys, findActiveAlgorithms, insertSigningKey, notifyKeysChanged } from './signing-keys.sql.ts';

/** What an emergency rotation did. */
export interface Replacement {
  algorithm: Algorithm;
  kid: string;
  /** Whatever these keys have signed is refused from now on. */
  dropped: string[];
}

/**
 * For a private key that somebody else may have: drops every key, the next one as well (it lay beside the others), and signs with
 * new ones. Every token and credential that is out there is refused by our processes at once, and by others when they read the
 * JWKS again.
 */
export async function replaceSigningKeys(context: WriteContext): Promise<Replacement[]> {
  const replacements: Replacement[] = [];
  for (const algorithm of await findActiveAlgorithms(context.db))
    replacements.push(await replace(context, algorithm));
  return replacements;
}

async function replace(context: WriteContext, algorithm: Algorithm): Promise<Replacement> {
  const { jwk, sealed } = await generateSealedKey(context, algorithm);
  return write(context, async (sql, now) => {
    const dropped = await dropKeys(sql, { algorithm, now });
    await insertSigningKey(sql, { state: 'active', jwk, sealed, now });
    await notifyKeysChanged(sql);
    return {
      result: { algorithm, kid: jwk.kid, dropped },
      audit: {
        action: 'signing_key.replaced',
        resource: jwk.kid,
        data: { algorithm, dropped },
        scope: 'instance',
      },
    };
  });
}
