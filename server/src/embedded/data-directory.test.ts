import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { StartupError } from '../kernel/startup-error.ts';
import { openDataDirectory } from './data-directory.ts';
import { getOwnProcess } from './process-identity.ts';
import { makeTemporaryFolder } from './temporary-folder.fixture.ts';

async function openingFails(path: string): Promise<string> {
  const error: unknown = await openDataDirectory(path).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(StartupError);
  const message = error instanceof Error ? error.message : '';
  expect(message).not.toContain('\n');
  return message;
}

describe('data directory', () => {
  it('is made with the folders above it, and only its owner can list it', async () => {
    const path = join(await makeTemporaryFolder(), 'a/b');
    const directory = await openDataDirectory(path);
    const { mode } = await stat(path);
    expect(mode & 0o777).toBe(process.getuid?.() === 0 ? 0o711 : 0o700);
    await directory.release();
  });

  it('keeps a secret once made, in a file that only its owner can read', async () => {
    const path = await makeTemporaryFolder();
    const first = await openDataDirectory(path);
    expect(await first.findSecret('key')).toBeUndefined();
    const secret = await first.getOrCreateSecret('key', 32);
    expect(secret).toMatch(/^[0-9a-f]{64}$/);
    await first.release();
    const second = await openDataDirectory(path);
    expect(await second.getOrCreateSecret('key', 32)).toBe(secret);
    expect((await stat(join(path, 'key'))).mode & 0o777).toBe(0o600);
    await writeFile(join(path, 'key'), '');
    await expect(second.findSecret('key')).rejects.toBeInstanceOf(StartupError);
    await second.release();
  });

  it('writes JSON as a whole, 0600, and clears what a killed write left', async () => {
    const path = await makeTemporaryFolder();
    await openDataDirectory(path).then((directory) => directory.release());
    await writeFile(join(path, 'dev.json.1.tmp'), '{"half":');
    const directory = await openDataDirectory(path);
    await directory.writeJson('dev.json', { a: 1 });
    expect(JSON.parse(await readFile(join(path, 'dev.json'), 'utf8'))).toEqual({ a: 1 });
    expect((await stat(join(path, 'dev.json'))).mode & 0o777).toBe(0o600);
    expect((await readdir(path)).filter((name) => name.endsWith('.tmp'))).toEqual([]);
    await directory.release();
  });

  it('refuses a path that is, or lies below, a regular file', async () => {
    const file = join(await makeTemporaryFolder(), 'file');
    await writeFile(file, '');
    expect(await openingFails(file)).toContain(`${file} is not a folder`);
    expect(await openingFails(join(file, 'data'))).toContain('is not a folder');
  });

  it.runIf(process.platform === 'linux')('refuses a folder that the system forbids to write', async () => {
    expect(await openingFails('/proc/self/credence')).toContain('/proc/self/credence');
  });

  it("refuses a folder with other people's files, and leaves its mode alone", async () => {
    const path = await makeTemporaryFolder();
    await writeFile(join(path, 'thesis.txt'), '');
    const before = (await stat(path)).mode;
    expect(await openingFails(path)).toContain('holds other files');
    expect((await stat(path)).mode).toBe(before);
  });
});

describe('instance lock', () => {
  it('lets one instance in; the next is told the pid of the first', async () => {
    const path = await makeTemporaryFolder();
    const directory = await openDataDirectory(path);
    expect(await openingFails(path)).toContain(`pid ${process.pid}`);
    await directory.release();
    await openDataDirectory(path).then((next) => next.release());
  });

  it('is taken over from a process that has ended, and from a pid that is now another process', async () => {
    const path = await makeTemporaryFolder();
    await openDataDirectory(path).then((directory) => directory.release());
    for (const stale of [
      { ...getOwnProcess(), pid: 2 ** 22 + 1 },
      { ...getOwnProcess(), startToken: 'another time' },
    ]) {
      await writeFile(join(path, 'instance.lock.41'), JSON.stringify(stale));
      await openDataDirectory(path).then((directory) => directory.release());
    }
    await writeFile(join(path, 'instance.lock.90'), '{"pid":');
    await openDataDirectory(path).then((directory) => directory.release());
    expect((await readdir(path)).filter((name) => name.startsWith('instance.lock'))).toEqual([
      'instance.lock.91',
    ]);
  });

  it('is held by exactly one of several processes that find it stale at once', async () => {
    const path = await makeTemporaryFolder();
    await writeFile(
      join(path, 'instance.lock.1'),
      JSON.stringify({ ...getOwnProcess(), startToken: 'before' }),
    );
    const script = `
      const { openDataDirectory } = await import(${JSON.stringify(new URL('data-directory.ts', import.meta.url).href)});
      process.stdout.write('ready\\n');
      await new Promise((go) => process.stdin.once('data', go));
      const said = await openDataDirectory(${JSON.stringify(path)}).then(() => 'held', (error) => error.message);
      process.stdout.write(said);
      process.stdin.once('data', () => process.exit());`;
    const starters = Array.from({ length: 4 }, () =>
      spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['pipe', 'pipe', 'inherit'] }),
    );
    const hear = async (starter: (typeof starters)[number]) =>
      String((await once(starter.stdout, 'data'))[0]);
    await Promise.all(starters.map(hear));
    const answers = Promise.all(starters.map(hear));
    for (const starter of starters) starter.stdin.write('go');
    const said = await answers;
    for (const starter of starters) starter.stdin.write('end');
    expect(said.filter((line) => line === 'held')).toHaveLength(1);
    expect(said.filter((line) => line.includes('is in use by another Credence'))).toHaveLength(3);
  });
});
