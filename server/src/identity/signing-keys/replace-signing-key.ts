import { write, type WriteContext } from '../../db/index.ts';
import { generateSealedKey } from './create-signing-key.ts';
import type { Algorithm } from './signing-key.ts';
import {
  dropKeys,
  findPublishedKeys,
  insertSigningKey,
  lockCurrentKeys,
  notifyKeysChanged,
} from './signing-keys.sql.ts';

/** What an emergency rotation did. */
export interface Replacement {
  algorithm: Algorithm;
  kid: string;
  /** Whether it signs from now on, in the place of one that did; else it is published in the place of a next one. */
  signs: boolean;
  /** Whatever these keys have signed is refused from now on. */
  dropped: string[];
}

/**
 * For a private key that somebody else may have: drops every key, the next one as well (it lay beside the others), and signs with
 * new ones. Every token and credential that is out there is refused by our processes at once, and by others when they read the
 * JWKS again.
 */
export async function replaceSigningKeys(context: WriteContext): Promise<Replacement[]> {
  const rows = await findPublishedKeys(context.db);
  const current = rows.filter(({ state }) => state !== 'retiring').map(({ algorithm }) => algorithm);
  const replacements: Replacement[] = [];
  for (const algorithm of new Set(current)) replacements.push(await replace(context, algorithm));
  return replacements;
}

async function replace(context: WriteContext, algorithm: Algorithm): Promise<Replacement> {
  const { jwk, sealed } = await generateSealedKey(context, algorithm);
  return write(context, async (sql, now) => {
    const signs = (await lockCurrentKeys(sql, algorithm)).some(({ state }) => state === 'active');
    const dropped = await dropKeys(sql, { algorithm, now });
    await insertSigningKey(sql, { state: signs ? 'active' : 'next', jwk, sealed, now });
    await notifyKeysChanged(sql);
    return {
      result: { algorithm, kid: jwk.kid, signs, dropped },
      audit: {
        action: 'signing_key.replaced',
        resource: jwk.kid,
        data: { algorithm, dropped },
        scope: 'instance',
      },
    };
  });
}
