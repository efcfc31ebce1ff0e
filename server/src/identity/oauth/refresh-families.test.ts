import { expect, it } from 'vitest';
import { openTestDatabase } from '../../../test/helpers/database.ts';
import { addSeconds } from '../../kernel/clock.ts';
import { sweepFamilies } from './refresh-families.sql.ts';

const { db } = await openTestDatabase();
const start = new Date('2026-11-22T10:00:00Z');

it('old families and old answers are forgotten batch by batch, and nothing else is', async () => {
  const nextDay = addSeconds(start, 24 * 60 * 60);
  for (const [id, spentAt, expiresAt = start] of [
    ['01900000', addSeconds(start, -60)],
    ['01900001', addSeconds(start, -60)],
    ['01900002', addSeconds(start, -90)],
    // Its id was made on a machine whose clock was behind.
    ['01900003', addSeconds(start, -60), nextDay],
    ['fff00000', addSeconds(start, -60)],
    ['fff00001', addSeconds(start, -60)],
    ['fff00002', start],
  ] as const) {
    const family = `${id}-0000-7000-8000-000000000000`;
    await db.query(
      `INSERT INTO refresh_families (id, agent_id, credential_id, scope, resource, token_hash, generation, created_at, expires_at)
       VALUES ($1, $1, 'cred_1', '', '', $2, 0, $3, $4)`,
      [family, Buffer.alloc(32), start, expiresAt],
    );
    await db.query('INSERT INTO spent_refresh_tokens VALUES ($1, $2, $2, $2, $3)', [
      family,
      Buffer.alloc(32),
      spentAt,
    ]);
  }
  const sweep = () =>
    sweepFamilies(db, { answersBefore: addSeconds(start, -30), familiesBefore: start, now: start, limit: 2 });
  const counts = [await sweep(), await sweep(), await sweep()];
  expect(counts).toEqual([
    { answers: 2, families: 2 },
    { answers: 2, families: 1 },
    { answers: 0, families: 0 },
  ]);
  const rows = await db.query(
    'SELECT f.id, s.answer IS NULL AS forgotten FROM refresh_families f JOIN spent_refresh_tokens s ON s.family_id = f.id ORDER BY f.id',
  );
  expect(rows).toEqual([
    { id: '01900003-0000-7000-8000-000000000000', forgotten: true },
    { id: 'fff00000-0000-7000-8000-000000000000', forgotten: true },
    { id: 'fff00001-0000-7000-8000-000000000000', forgotten: true },
    { id: 'fff00002-0000-7000-8000-000000000000', forgotten: false },
  ]);
});
