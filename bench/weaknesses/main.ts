import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

// `npm run weaknesses -w bench [-- name …]`: the scripts that README.md lists, in turn. Exits with the highest code of theirs.
const table = readFileSync(new URL('README.md', import.meta.url), 'utf8');
const all = [...table.matchAll(/^\| `([a-z-]+)`/gm)].map(([, name = '']) => name);
const named = process.argv.slice(2);
const unknown = named.find((name) => !all.includes(name));
if (unknown !== undefined) throw new Error(`${unknown} is none of ${all.join(', ')}`);

for (const name of named.length > 0 ? named : all) {
  const file = fileURLToPath(new URL(`${name}.ts`, import.meta.url));
  const { status } = spawnSync(process.execPath, [file], { stdio: 'inherit' });
  process.exitCode = Math.max(Number(process.exitCode ?? 0), status ?? 2);
}
