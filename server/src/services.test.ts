import { setTimeout as sleep } from 'node:timers/promises';
import pino from 'pino';
import { expect, it } from 'vitest';
import { openTestDatabase } from '../test/helpers/database.ts';
import { readConfig } from './config.ts';
import { createServices } from './services.ts';

it('a start that fails for want of a chain leaves nothing behind that asks the database', async () => {
  const { url } = await openTestDatabase();
  const lines: string[] = [];
  const relayerKey = `0x${'ab'.repeat(32)}` as const;
  const start = createServices({
    config: readConfig({}),
    logger: pino({}, { write: (line: string) => void lines.push(line) }),
    databaseUrl: url,
    masterKey: Buffer.alloc(32, 7),
    // Nobody answers there.
    chains: { sandbox: { rpcUrl: 'http://127.0.0.1:1', relayerKey, finality: 'instant' } },
  });
  await expect(start).rejects.toThrow('the sandbox chain doesn');
  // Longer than any of the loops rests that a failed start could have begun.
  await sleep(2_500);
  expect(lines).toEqual([]);
});
