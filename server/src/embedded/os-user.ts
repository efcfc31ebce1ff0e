import { execFile } from 'node:child_process';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { StartupError } from '../kernel/startup-error.ts';
import { hasCode } from './atomic-file.ts';

const run = promisify(execFile);

/** A user of this machine that a child runs as. */
export interface OsUser {
  name: string;
  uid: number;
  gid: number;
}

/**
 * The user that PostgreSQL runs as, which refuses to run as root: undefined (ourselves) unless we are root, else an
 * existing user. None is ever created.
 */
export async function findDatabaseUser(): Promise<OsUser | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  for (const name of ['postgres', 'nobody']) {
    const user = await findUser(name);
    if (user) return user;
  }
  throw new StartupError(
    'PostgreSQL does not run as root, and this machine has no user postgres or nobody: start as another user, or set DATABASE_URL.',
  );
}

async function findUser(name: string): Promise<OsUser | undefined> {
  try {
    const [uid, gid] = await Promise.all([run('id', ['-u', name]), run('id', ['-g', name])]);
    return { name, uid: Number(uid.stdout), gid: Number(gid.stdout) };
  } catch {
    return undefined;
  }
}

function mayNotBecome(user: OsUser): StartupError {
  return new StartupError(
    `PostgreSQL does not run as root, and this root may not become user ${user.name}: start as another user, or set DATABASE_URL.`,
  );
}

/**
 * Makes sure that a user can reach a path, by trying as that user: modes alone don't tell (access lists, containers).
 * @throws StartupError that names the outermost folder that keeps the user out, and the cure.
 */
export async function assertReachable(user: OsUser, path: string, orElse: string): Promise<void> {
  const folders = [path];
  while (dirname(folders[0] ?? '/') !== folders[0]) folders.unshift(dirname(folders[0] ?? '/'));
  const script = 'for p; do [ -x "$p" ] || { printf %s "$p"; exit; }; done';
  const options = { cwd: '/', uid: user.uid, gid: user.gid };
  const { stdout: blocked } = await run('/bin/sh', ['-c', script, 'sh', ...folders], options).catch(
    (error: unknown) => {
      throw hasCode(error, 'EPERM') ? mayNotBecome(user) : error;
    },
  );
  if (blocked === '') return;
  throw new StartupError(
    `PostgreSQL runs as user ${user.name}, who can't enter ${blocked}: run chmod o+x '${blocked}', or ${orElse}.`,
  );
}
