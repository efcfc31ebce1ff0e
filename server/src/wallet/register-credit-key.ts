import { write, type WriteContext } from '../db/index.ts';
import { AppError } from '../kernel/errors.ts';
import type { EnvironmentId } from '../kernel/ids.ts';
import { limits } from '../kernel/limits.ts';
import { readCreditKey } from './credit-key.ts';
import {
  type CreditKeyRow,
  insertCreditKey,
  listCreditKeys,
  markCreditKeyRevoked,
  notifyCreditKeysChanged,
} from './credit-keys.sql.ts';

/**
 * Lets a key pay with the environment's credits, for as long as it isn't revoked. Throws `conflict` where it was registered before,
 * also where it was revoked since, and where the environment has as many as it may.
 */
export async function registerCreditKey(
  context: WriteContext,
  environmentId: EnvironmentId,
  given: { jwk: Readonly<Record<string, unknown>>; name: string },
): Promise<CreditKeyRow> {
  const { kid, algorithm, jwk } = readCreditKey(given.jwk);
  return write(context, async (sql, now) => {
    const active = (await listCreditKeys(sql, environmentId)).filter(({ revokedAt }) => revokedAt === null);
    if (active.length >= limits.creditKeysPerEnvironment)
      throw new AppError(
        'conflict',
        `An environment has at most ${limits.creditKeysPerEnvironment} keys: revoke one`,
      );
    const key = { kid, name: given.name, algorithm, publicJwk: jwk, createdAt: now };
    if (!(await insertCreditKey(sql, environmentId, key)))
      throw new AppError(
        'conflict',
        'This key was registered before; a key that was revoked can’t come back',
      );
    await notifyCreditKeysChanged(sql, environmentId);
    const data = { algorithm, name: given.name };
    return {
      result: { ...key, revokedAt: null },
      audit: { action: 'credit_key.registered', resource: kid, data },
    };
  });
}

/** Takes the key's right away, on every gateway within some seconds. Throws `not_found`. */
export async function revokeCreditKey(
  context: WriteContext,
  environmentId: EnvironmentId,
  kid: string,
): Promise<void> {
  await write(context, async (sql, now) => {
    if (!(await markCreditKeyRevoked(sql, environmentId, kid, now)))
      throw new AppError('not_found', 'There is no such key');
    await notifyCreditKeysChanged(sql, environmentId);
    return { result: undefined, audit: { action: 'credit_key.revoked', resource: kid } };
  });
}
