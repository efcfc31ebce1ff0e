import { type Sql, write, type WriteContext } from '../../db/index.ts';
import { addSeconds } from '../../kernel/clock.ts';
import { AppError } from '../../kernel/errors.ts';
import { limits } from '../../kernel/limits.ts';
import { createSigningKeys, generateSealedKey } from './create-signing-key.ts';
import { knownFrom } from './signing-key.ts';
import type { Algorithm } from './signing-key.ts';
import {
  activateKey,
  findActiveAlgorithms,
  findPublishedKeys,
  insertSigningKey,
  lockCurrentKeys,
  notifyKeysChanged,
  retireKey,
} from './signing-keys.sql.ts';

/** What a rotation did. */
export interface Rotation {
  algorithm: Algorithm;
  /** The key that signs from now on. */
  kid: string;
  /** The key that has signed until now, and verifies until then. */
  retired: string;
  verifiesUntil: Date;
}

/**
 * Lets the next key of each algorithm sign, and publishes the one after it. What is already signed stays good. Throws `conflict`
 * where a next key hasn't been published for long enough that every verifier knows it, and changes nothing then.
 */
export async function rotateSigningKeys(context: WriteContext): Promise<Rotation[]> {
  const algorithms = await findActiveAlgorithms(context.db);
  await assertPublished(context, algorithms);
  const rotations: Rotation[] = [];
  for (const algorithm of algorithms) rotations.push(await rotate(context, algorithm));
  return rotations;
}

/** Looks at all of them first: a rotation of some algorithms alone would be hard to explain, and to repeat. */
async function assertPublished(context: WriteContext, algorithms: readonly Algorithm[]): Promise<void> {
  const rows = await findPublishedKeys(context.db);
  for (const algorithm of algorithms) {
    const next = rows.find((row) => row.state === 'next' && row.algorithm === algorithm);
    if (!next) await createSigningKeys(context, [{ algorithm, state: 'next' }]);
    assertKnownToVerifiers(next?.createdAt ?? context.clock.now(), context.clock.now());
  }
}

function assertKnownToVerifiers(publishedAt: Date, now: Date): void {
  const readyAt = knownFrom(publishedAt);
  if (readyAt <= now) return;
  throw new AppError(
    'conflict',
    `the next key was published at ${publishedAt.toISOString()}, and some verifiers may not have read it yet: rotate again from ${readyAt.toISOString()} on`,
  );
}

async function rotate(context: WriteContext, algorithm: Algorithm): Promise<Rotation> {
  const { jwk, sealed } = await generateSealedKey(context, algorithm);
  return write(context, async (sql, now) => {
    const { active, next } = await lockBoth(sql, algorithm);
    assertKnownToVerifiers(next.createdAt, now);
    const verifiesUntil = addSeconds(now, limits.signedTokenSecondsMax + limits.rotationLagSeconds);
    await retireKey(sql, { kid: active.kid, now, verifiesUntil });
    await activateKey(sql, { kid: next.kid, now });
    await insertSigningKey(sql, { state: 'next', jwk, sealed, now });
    await notifyKeysChanged(sql);
    return {
      result: { algorithm, kid: next.kid, retired: active.kid, verifiesUntil },
      audit: {
        action: 'signing_key.rotated',
        resource: next.kid,
        data: { algorithm, retired: active.kid, verifies_until: verifiesUntil.toISOString(), next: jwk.kid },
        scope: 'instance',
      },
    };
  });
}

/** Held until the transaction ends, so that of two rotations at once the second one sees the first one's keys. */
async function lockBoth(sql: Sql, algorithm: Algorithm) {
  const rows = await lockCurrentKeys(sql, algorithm);
  const active = rows.find((row) => row.state === 'active');
  const next = rows.find((row) => row.state === 'next');
  if (!active || !next)
    throw new AppError('conflict', `the keys of ${algorithm} are being changed: rotate again`);
  return { active, next };
}
