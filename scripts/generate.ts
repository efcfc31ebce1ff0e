/** Writes what is made from the routes: openapi.json and the SDK's types. `--check` only says whether they are fresh. */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describedRoutes } from '../server/src/api.ts';
import { describeApi } from '../server/src/http/index.ts';
import packageJson from '../server/package.json' with { type: 'json' };

const run = promisify(execFile);
const root = new URL('../', import.meta.url);
const openApiFile = new URL('openapi.json', root);
const typesFile = new URL('sdk/src/generated/api.ts', root);

/** The generator works on files. Its TypeScript is one that still has a compiler API, and is the SDK's own. */
async function generateTypes(openApi: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'credence-generate-'));
  try {
    const [input, output] = [join(folder, 'openapi.json'), join(folder, 'api.ts')];
    await writeFile(input, openApi);
    const command = new URL('sdk/node_modules/.bin/openapi-typescript', root).pathname;
    await run(command, [input, '--output', output, '--alphabetize']);
    return await readFile(output, 'utf8');
  } finally {
    await rm(folder, { recursive: true });
  }
}

const openApi = `${JSON.stringify(describeApi(describedRoutes(), packageJson.version), null, 2)}\n`;
const wanted = [
  { file: openApiFile, text: openApi },
  { file: typesFile, text: await generateTypes(openApi) },
];

if (process.argv.includes('--check')) {
  for (const { file, text } of wanted) {
    const present = await readFile(file, 'utf8').catch(() => '');
    if (present === text) continue;
    console.error(`${file.pathname} is not what the routes say: run npm run generate`);
    process.exitCode = 1;
  }
} else {
  for (const { file, text } of wanted) await writeFile(file, text);
}
