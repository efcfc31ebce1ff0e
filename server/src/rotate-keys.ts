import { parseArgs } from 'node:util';
import { readConfig } from './config.ts';
import { createDatabaseClock, openDatabase, type WriteContext } from './db/index.ts';
import { findRunningGround } from './ground.ts';
import { loadSigningKeys, replaceSigningKeys, rotateSigningKeys } from './identity/index.ts';
import { createSecretBox } from './kernel/crypto.ts';
import { AppError } from './kernel/errors.ts';
import { StartupError } from './kernel/startup-error.ts';

const usage = `npm run rotate-keys             lets the next signing key sign; what is already signed stays good
npm run rotate-keys -- --now    in an emergency: drops every signing key, and all that they have signed, at once
`;

/** `npm run rotate-keys`, with the settings of the instance: every process hears of it, and none has to be started again. */
async function main(): Promise<void> {
  const { values } = parseArgs({ options: { now: { type: 'boolean' }, help: { type: 'boolean' } } });
  if (values.help) return void process.stdout.write(usage);
  const ground = await findRunningGround(readConfig(process.env));
  const db = openDatabase(ground.databaseUrl, { poolSize: 1, onError: () => undefined });
  try {
    // The one that the processes go by.
    const clock = await createDatabaseClock(db, { onError: () => undefined }).catch(unreadable);
    const context: WriteContext = {
      db,
      clock,
      box: createSecretBox(ground.masterKey),
      actor: { kind: 'system', id: 'rotate-keys' },
      scope: 'instance',
      requestId: null,
      clientAddress: null,
    };
    try {
      // Keys sealed under another master key than that of the processes could be opened by none of them.
      await loadSigningKeys(context, []).catch(unreadable);
      const report = values.now ? await replace(context) : await rotate(context);
      process.stdout.write(`${report.join('\n')}\n`);
    } finally {
      await clock.stop();
    }
  } finally {
    await db.close();
  }
}

function unreadable(cause: unknown): never {
  throw new StartupError(
    'the signing keys cannot be read: run this with the settings that the instance runs with, CREDENCE_MASTER_KEY and DATABASE_URL above all',
    { cause },
  );
}

async function rotate(context: WriteContext): Promise<string[]> {
  const rotations = await rotateSigningKeys(context);
  return rotations.map(
    ({ algorithm, kid, retired, verifiesUntil }) =>
      `${algorithm}: ${kid} signs from now on; ${retired} verifies until ${verifiesUntil.toISOString()}`,
  );
}

async function replace(context: WriteContext): Promise<string[]> {
  const replacements = await replaceSigningKeys(context);
  return replacements.map(
    ({ algorithm, kid, signs, dropped }) =>
      `${algorithm}: ${kid} ${signs ? 'signs from now on' : 'will sign when it has been published for long enough'}; dropped, with all that they have signed: ${dropped.join(', ')}`,
  );
}

try {
  await main();
} catch (error) {
  const expected = error instanceof AppError || error instanceof StartupError;
  const isUsage = (error as NodeJS.ErrnoException).code?.startsWith('ERR_PARSE_ARGS') ?? false;
  const message = error instanceof Error ? error.message : String(error);
  process.stderr.write(
    `credence: ${expected || isUsage ? message : `keys not rotated: ${message}`}\n${isUsage ? usage : ''}`,
  );
  process.exitCode = 1;
}
