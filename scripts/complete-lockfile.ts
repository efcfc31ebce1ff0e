/**
 * Adds to package-lock.json the packages of other platforms that npm left out because it didn't find them: it drops such an
 * optional package from the lock file, and then refuses that file in `npm ci`. Run it after `npm install`.
 * An entry made here has no integrity hash: the next `npm install` that finds the package adds it.
 */
import { readFile, writeFile } from 'node:fs/promises';

interface LockEntry {
  version?: string;
  dev?: boolean;
  optional?: boolean;
  os?: string[];
  cpu?: string[];
  libc?: string[];
  optionalDependencies?: Record<string, string>;
}

const file = new URL('../package-lock.json', import.meta.url);
const lock = JSON.parse(await readFile(file, 'utf8')) as { packages: Record<string, LockEntry> };

const systems: Record<string, string> = { windows: 'win32', win: 'win32', win32: 'win32' };
const processors: Record<string, string> = {
  amd64: 'x64',
  i386: 'ia32',
  gnueabihf: 'arm',
  armv7: 'arm',
  eabi: 'arm',
};
const knownSystems = new Set([
  'android',
  'darwin',
  'freebsd',
  'linux',
  'openharmony',
  'win32',
  'netbsd',
  'openbsd',
  'sunos',
  'aix',
]);
const knownProcessors = new Set([
  'arm',
  'arm64',
  'ia32',
  'ppc64',
  'riscv64',
  's390x',
  'x64',
  'loong64',
  'mips64el',
  'wasm32',
]);

/** The platform that a package's name spells, such as `binding-linux-arm64-musl`. */
function platformOf(name: string): Pick<LockEntry, 'cpu' | 'libc' | 'os'> {
  const words = name.split(/[/-]/);
  const os = words.map((word) => systems[word] ?? word).find((word) => knownSystems.has(word));
  const cpu = words.map((word) => processors[word] ?? word).find((word) => knownProcessors.has(word));
  const musl = words.some((word) => word.startsWith('musl'));
  const libc = os === 'linux' && musl ? ['musl'] : undefined;
  return { ...(cpu ? { cpu: [cpu] } : {}), ...(os ? { os: [os] } : {}), ...(libc ? { libc } : {}) };
}

/** Where Node would look for a dependency of the package at `path`, the nearest place first. */
function placesOf(path: string, name: string): string[] {
  const places: string[] = [];
  for (
    let at = path;
    at !== '';
    at = at.includes('node_modules/') ? at.replace(/(?:^|\/)node_modules\/(?:@[^/]+\/)?[^/]+$/, '') : ''
  ) {
    places.push(`${at}/node_modules/${name}`);
  }
  return [...places, `node_modules/${name}`];
}

let added = 0;
for (const [path, entry] of Object.entries(lock.packages)) {
  for (const [name, range] of Object.entries(entry.optionalDependencies ?? {})) {
    const version = range.replace(/^[\^~]/, '');
    // The nearest one counts, and only if it is the one that is asked for.
    const nearest = placesOf(path, name).flatMap((place) => lock.packages[place] ?? [])[0];
    const exact = /^\d/.test(range);
    const found = nearest !== undefined && (!exact || nearest.version === version);
    const platform = platformOf(name);
    if (found || (!platform.os && !platform.cpu)) continue;
    const parent = path.includes('node_modules/')
      ? path.replace(/(?:^|\/)node_modules\/(?:@[^/]+\/)?[^/]+$/, '')
      : '';
    const place = `${parent === '' ? '' : `${parent}/`}node_modules/${name}`;
    lock.packages[place] = { version, ...platform, ...(entry.dev ? { dev: true } : {}), optional: true };
    added += 1;
  }
}

const { '': root, ...rest } = lock.packages;
const sorted = Object.entries(rest).toSorted(([left], [right]) => (left < right ? -1 : 1));
lock.packages = { ...(root ? { '': root } : {}), ...Object.fromEntries(sorted) };
await writeFile(file, `${JSON.stringify(lock, null, 2)}\n`);
console.log(`package-lock.json: ${added} platform packages added`);
