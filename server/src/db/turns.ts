import type { Sql } from './database.ts';

/** What names a row. */
export interface RowKey {
  environmentId: string;
  id: string;
}

const first: RowKey = { environmentId: '', id: '' };
const reached = new WeakMap<Sql, Map<string, RowKey>>();

/**
 * Finds `limit` rows at most, which go on where this process's last round of the same name has ended, and begin anew after the last of all:
 * rows of which nothing can be made keep none from its turn, however many they are. `find` gives those behind a row, in the order of their keys.
 */
export async function findInTurn<Row extends RowKey>(
  db: Sql,
  round: { name: string; limit: number },
  find: (after: RowKey) => Promise<Row[]>,
): Promise<Row[]> {
  const places = reached.get(db) ?? new Map<string, RowKey>();
  reached.set(db, places);
  const rows = await find(places.get(round.name) ?? first);
  const last = rows.at(-1);
  if (last && rows.length >= round.limit)
    places.set(round.name, { environmentId: last.environmentId, id: last.id });
  else places.delete(round.name);
  return rows;
}
