import { write, type WriteContext } from '../db/index.ts';
import { type ApiKeyId, newId } from '../kernel/ids.ts';
import { type Environment, insertApiKey } from './accounts.sql.ts';
import { displayPrefix, hashApiKey, newApiKey } from './api-key.ts';

/** Creates a key of the environment. Its text is in the result, and nowhere else: only its hash is kept. */
export async function createApiKey(
  context: WriteContext,
  args: { environment: Environment; name: string; scopes: readonly string[] },
): Promise<{ id: ApiKeyId; key: string }> {
  const key = newApiKey(args.environment.kind);
  return write(context, async (sql, now) => {
    const id = newId('api_key');
    await insertApiKey(sql, {
      environmentId: args.environment.id,
      id,
      name: args.name,
      displayPrefix: displayPrefix(key),
      secretHash: hashApiKey(key),
      scopes: args.scopes,
      now,
    });
    return {
      result: { id, key },
      audit: {
        action: 'api_key.created',
        resource: id,
        scope: args.environment.id,
        data: { scopes: args.scopes },
      },
    };
  });
}
