import { randomUUID } from 'node:crypto';
import { link, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

/** The ending of half-written files; whoever holds the directory may delete them. */
export const temporarySuffix = '.tmp';

/**
 * Writes a file so that a reader, and the next start after a crash, sees the old content or the new, never a part.
 * @param options.keepAs also keeps the content that is being replaced, under this path.
 */
export async function replaceFile(
  path: string,
  content: string | Uint8Array,
  options: { mode: number; keepAs?: string },
): Promise<void> {
  const temporary = `${path}.${randomUUID()}${temporarySuffix}`;
  try {
    const file = await open(temporary, 'wx', options.mode);
    try {
      await file.writeFile(content);
      await file.chmod(options.mode); // A umask may have narrowed it.
      await file.sync();
    } finally {
      await file.close();
    }
    if (options.keepAs !== undefined) await keepPrevious(path, options.keepAs);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncFolder(dirname(path));
}

/** Gives the present content a second name first, so that at no instant both names are missing. */
async function keepPrevious(path: string, keepAs: string): Promise<void> {
  const temporary = `${keepAs}.${randomUUID()}${temporarySuffix}`;
  try {
    await link(path, temporary);
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return; // The first write has no previous.
    throw error;
  }
  await rename(temporary, keepAs);
}

/** Makes renames inside a folder survive a power failure. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** True for a system error with one of these codes (`ENOENT`, `EACCES`, …). */
export function hasCode(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code));
}
