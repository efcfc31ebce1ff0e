import { globSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { findImports, type ModuleMap, readModules } from './module-map.ts';
import { areaOf, findViolations } from './module-rules.ts';

const server = new URL('../', import.meta.url);
const index = (room: string) => `src/${room}/index.ts`;

const foldersThatStand =
  'kernel db http start contracts embedded development evidence accounts identity ledger x402 authority wallet market gateway';

describe('the modules of the server', () => {
  let modules: ModuleMap;
  beforeAll(async () => {
    modules = await readModules(server, ['src', 'contracts', 'test']);
  });

  it('are all seen', () => {
    const onDisk = globSync(['src/**/*.ts', 'contracts/**/*.ts', 'test/**/*.ts'], {
      cwd: fileURLToPath(server),
    });
    expect([...modules.keys()].toSorted()).toEqual(onDisk.toSorted());
  });

  it.each(foldersThatStand.split(' '))('%s is there, and imports something', (area) => {
    const inside = [...modules].filter(([file]) => areaOf(file) === area);
    expect(inside.length).toBeGreaterThan(1);
    expect(inside.flatMap(([, imports]) => imports).length).toBeGreaterThan(0);
  });

  it('import only what stands to their left, through its public face, without cycles', () => {
    expect(findViolations(modules)).toEqual([]);
  });
});

describe('a rule is broken by', () => {
  it.each([
    [
      'a room to the right',
      'src/ledger/a.ts',
      index('x402'),
      'ledger imports only kernel, db, http, accounts, identity',
    ],
    [
      'a room to the right, from a test',
      'src/accounts/a.test.ts',
      index('identity'),
      'accounts imports only kernel, db, http',
    ],
    ['authority in the gateway', 'src/gateway/a.ts', index('authority'), 'gateway imports only'],
    ['evidence in a room', 'src/gateway/a.ts', index('evidence'), 'gateway imports only'],
    ['evidence beside app.ts', 'src/main.ts', index('evidence'), 'evidence is imported only by src/app.ts'],
    ['webhooks beside app.ts', 'src/ground.ts', index('webhooks'), 'webhooks is imported only by src/app.ts'],
    ['notices beside app.ts', 'src/main.ts', index('notices'), 'notices is imported only by src/app.ts'],
    [
      'development beside the start',
      'src/planes.ts',
      index('development'),
      'development is imported only by',
    ],
    [
      'a helper of tests in the program',
      'src/gateway/a.ts',
      'test/helpers/b.ts',
      'test is imported by tests only',
    ],
    ['embedded beside the start', 'src/planes.ts', index('embedded'), 'embedded is imported only by'],
    ['a room in the kernel', 'src/kernel/a.ts', index('accounts'), 'kernel imports only itself'],
    ['the database in the kernel', 'src/kernel/a.ts', index('db'), 'kernel imports only itself'],
    ['HTTP in the kernel', 'src/kernel/a.ts', index('http'), 'kernel imports only itself'],
    ['HTTP in the database', 'src/db/a.ts', index('http'), 'db imports only kernel'],
    ['a room in HTTP', 'src/http/a.ts', index('accounts'), 'http imports only kernel, db'],
    ['the start in a room', 'src/wallet/a.ts', 'src/config.ts', 'wallet imports only'],
    [
      'a room by its inside',
      'src/wallet/a.ts',
      'src/authority/decide.ts',
      'authority is imported through its index.ts only',
    ],
    [
      'a room by its inside, from the start',
      'src/app.ts',
      'src/authority/decide.ts',
      'through its index.ts only',
    ],
    ['a folder that nobody placed', 'src/utils/a.ts', 'src/kernel/b.ts', 'utils has no place in the layout'],
    ['a module that is not there', 'src/wallet/a.ts', 'src/wallet/gone.ts', 'there is no such module'],
  ])('%s', (what, file, imported, rule) => {
    const modules = new Map([[file, [imported]]]);
    if (!what.includes('not there')) modules.set(imported, []);
    expect(findViolations(modules)).toEqual([expect.stringContaining(`${file} imports ${imported}: `)]);
    expect(findViolations(modules).join()).toContain(rule);
  });

  it('a cycle, within one room as well', () => {
    const modules = new Map([
      ['src/x402/a.ts', ['src/x402/b.ts']],
      ['src/x402/b.ts', ['src/x402/c.ts']],
      ['src/x402/c.ts', ['src/x402/b.ts']],
    ]);
    expect(findViolations(modules)).toEqual([
      'src/x402/c.ts imports src/x402/b.ts: no cycles, and src/x402/b.ts → src/x402/c.ts → src/x402/b.ts is one',
    ]);
  });

  it('nothing that ARCHITECTURE.md allows', () => {
    const modules = new Map([
      ['src/gateway/a.ts', [index('x402'), index('market'), 'src/kernel/b.ts', 'src/gateway/c.ts']],
      ['src/gateway/a.test.ts', ['src/x402/inside.ts']],
      ['src/app.ts', [index('evidence'), index('gateway')]],
      ...['src/kernel/b.ts', 'src/gateway/c.ts', 'src/x402/inside.ts', index('x402')].map(empty),
      ...[index('market'), index('evidence'), index('gateway')].map(empty),
    ]);
    expect(findViolations(modules)).toEqual([]);
  });
});

function empty(file: string): [string, string[]] {
  return [file, []];
}

describe('findImports', () => {
  it.each([
    ["import { a } from './a.ts'", ['src/x402/a.ts']],
    ["import type { A } from '../kernel/a.ts'", ['src/kernel/a.ts']],
    ["import '../a.ts'", ['src/a.ts']],
    ["export { a } from './a.ts'", ['src/x402/a.ts']],
    ["export * from './a.ts'", ['src/x402/a.ts']],
    ["const a = await import('./a.ts')", ['src/x402/a.ts']],
    ["let a: import('./a.ts').A", ['src/x402/a.ts']],
    ["import a from 'viem'; import b from './b.json' with { type: 'json' }; await import(name)", []],
  ])('%s', (source, imports) => {
    expect(findImports('src/x402/x.ts', source)).toEqual(imports);
  });

  it('refuses what it could not follow', () => {
    expect(() => findImports('src/x.ts', 'await import(`./${name}.ts`)')).toThrow(
      'must be named by a plain string',
    );
    expect(() => findImports('src/x.ts', 'import {')).toThrow('cannot be parsed');
  });
});
