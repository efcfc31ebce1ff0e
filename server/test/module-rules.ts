import type { ModuleMap } from './module-map.ts';

/** From left to right, as ARCHITECTURE.md lists them: each imports only those before it. */
const rooms = [
  'accounts',
  'identity',
  'ledger',
  'x402',
  'authority',
  'wallet',
  'market',
  'usage',
  'gateway',
] as const;

const grounds = ['kernel', 'db', 'http'];

/** What each folder may import besides itself. A folder that isn't here has no place in the layout yet. */
const mayImport: Readonly<Record<string, readonly string[]>> = {
  kernel: [],
  db: ['kernel'],
  http: ['kernel', 'db'],
  ...Object.fromEntries(rooms.map((room, index) => [room, [...grounds, ...rooms.slice(0, index)]])),
  // A decision is the wallet's to ask for. The gateway asks whether a payment is good, never whether it was allowed.
  gateway: [...grounds, ...rooms.filter((room) => room !== 'gateway' && room !== 'authority')],
  evidence: [...grounds, ...rooms],
  webhooks: [...grounds, ...rooms],
  notices: [...grounds, ...rooms],
  embedded: ['kernel'],
  development: [...grounds, ...rooms, 'embedded', 'start'],
  start: [...grounds, ...rooms, 'evidence', 'webhooks', 'notices', 'embedded', 'development'],
  contracts: ['embedded'],
};

/** These are imported by nobody else; `start` is the modules of `src` itself, such as `src/app.ts`. */
const importers: Readonly<Record<string, readonly string[]>> = {
  evidence: ['src/app.ts', 'src/api.ts'],
  webhooks: ['src/app.ts'],
  notices: ['src/app.ts'],
  development: ['src/main.ts', 'src/app.ts'],
  embedded: ['src/main.ts', 'src/app.ts', 'src/ground.ts', 'src/development/', 'contracts/'],
};

/** Folders without a public face: their modules are imported one by one. */
const open = new Set(['kernel', 'start', 'contracts']);

/** Every import that goes against these rules, as a line with file, import and rule. */
export function findViolations(modules: ModuleMap): string[] {
  const wrong = [...modules].flatMap(([file, imports]) =>
    imports.flatMap((imported) => {
      const rule = modules.has(imported) ? findBrokenRule(file, imported) : 'there is no such module';
      return rule === undefined ? [] : [`${file} imports ${imported}: ${rule}`];
    }),
  );
  return [...wrong, ...findCycles(modules)];
}

/** The folder of a module, as the rules name it: a room, `kernel`, `contracts`, or `start` for what stands in `src` itself. */
export function areaOf(file: string): string {
  const [top = '', folder = '', ...rest] = file.split('/');
  if (top !== 'src') return top;
  return rest.length === 0 ? 'start' : folder;
}

function findBrokenRule(file: string, imported: string): string | undefined {
  const [from, to] = [areaOf(file), areaOf(imported)];
  // Tests of the whole may reach everywhere, and tests beside a file may use what they share; nothing else may.
  if (from === 'test') return undefined;
  if (to === 'test') return isTestFile(file) ? undefined : 'test is imported by tests only';
  const allowed = mayImport[from];
  if (allowed === undefined) return `${from} has no place in the layout`;
  if (mayImport[to] === undefined) return `${to} has no place in the layout`;
  if (from === to) return undefined;
  if (!allowed.includes(to)) return `${from} imports only ${allowed.join(', ') || 'itself'}`;
  const only = importers[to];
  if (only && !only.some((importer) => file.startsWith(importer)))
    return `${to} is imported only by ${only.join(', ')}`;
  // A test may reach for what it proves; a fixture is a test's.
  if (!isTestFile(file) && !open.has(to) && imported !== `src/${to}/index.ts`)
    return `${to} is imported through its index.ts only`;
  return undefined;
}

function isTestFile(file: string): boolean {
  return /\.(?:test|fixture)\.ts$/.test(file);
}

function findCycles(modules: ModuleMap): string[] {
  const done = new Set<string>();
  const cycles: string[] = [];
  const walk = (file: string, path: readonly string[]): void => {
    const start = path.indexOf(file);
    if (start !== -1) {
      const cycle = path.slice(start);
      cycles.push(
        `${cycle.at(-1) ?? file} imports ${file}: no cycles, and ${[...cycle, file].join(' → ')} is one`,
      );
      return;
    }
    if (done.has(file)) return;
    for (const imported of modules.get(file) ?? []) walk(imported, [...path, file]);
    done.add(file);
  };
  for (const file of modules.keys()) walk(file, []);
  return cycles;
}
