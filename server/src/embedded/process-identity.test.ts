import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { findProcess, getOwnProcess, isAlive, isAliveAndOurs, parsePsLine } from './process-identity.ts';

describe('process identity', () => {
  it('a process is itself, and no longer once it has ended', async () => {
    const child = spawn('sleep', ['60']);
    await once(child, 'spawn');
    const identity = findProcess(child.pid ?? 0);
    expect(identity?.command).toBe('sleep 60');
    expect(identity && isAliveAndOurs(identity)).toBe(true);
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(identity && isAlive(identity)).toBe(false);
  });

  it('another start time or another program under the same pid is another process', () => {
    const own = getOwnProcess();
    expect(isAlive({ ...own, startToken: `${own.startToken}0` })).toBe(false);
    expect(isAliveAndOurs({ ...own, command: 'postgres -D elsewhere' })).toBe(false);
    expect(isAliveAndOurs(own)).toBe(true);
  });

  it.each([
    [
      'Ss   Sun Nov 22 00:12:03 2026     /opt/postgres -D /data/pg',
      'Sun Nov 22 00:12:03 2026',
      '/opt/postgres -D /data/pg',
    ],
    ['S+   Tue Dec  1 09:00:00 2026     anvil', 'Tue Dec 1 09:00:00 2026', 'anvil'],
  ])('reads a line of ps: %s', (line, startToken, command) => {
    expect(parsePsLine(7, `${line}\n`)).toEqual({ pid: 7, startToken, command });
  });

  it.each(['Z    Sun Nov 22 00:12:03 2026     (postgres)', ''])(
    'sees no living process in a line of ps: %j',
    (line) => {
      expect(parsePsLine(7, line)).toBeUndefined();
    },
  );
});
