import type { Database } from '../db/index.ts';
import { type ApiKey, findActiveApiKey } from './accounts.sql.ts';
import { hashApiKey, looksLikeApiKey } from './api-key.ts';

/** The key that this text is, if it is one and still good. Reads only: nothing is written on the way in. */
export async function findApiKey(db: Database, text: string): Promise<ApiKey | undefined> {
  return looksLikeApiKey(text) ? findActiveApiKey(db, hashApiKey(text)) : undefined;
}
