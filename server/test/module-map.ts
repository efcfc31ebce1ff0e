import { readdir, readFile } from 'node:fs/promises';
import { dirname, posix } from 'node:path';
import { parseSync, Visitor } from 'oxc-parser';

/** Each module by its path below `server/`, with the modules of ours that it imports or re-exports from. */
export type ModuleMap = ReadonlyMap<string, readonly string[]>;

/** Reads every TypeScript module below these folders of `server/`. Throws on what can't be parsed or followed. */
export async function readModules(server: URL, folders: readonly string[]): Promise<ModuleMap> {
  const found = await Promise.all(folders.map((folder) => findFiles(server, folder)));
  const entries = found.flat().map(async (file): Promise<[string, string[]]> => {
    const source = await readFile(new URL(file, server), 'utf8');
    return [file, findImports(file, source)];
  });
  return new Map(await Promise.all(entries));
}

async function findFiles(server: URL, folder: string): Promise<string[]> {
  const names = await readdir(new URL(`${folder}/`, server), { recursive: true });
  return names.filter((name) => name.endsWith('.ts')).map((name) => posix.join(folder, name));
}

/** What a module imports from files of ours: statically, dynamically, as a type, or to export it again. */
export function findImports(file: string, source: string): string[] {
  const { module, program, errors } = parseSync(file, source);
  if (errors.length > 0) throw new Error(`${file} cannot be parsed: ${errors[0]?.message ?? ''}`);
  const requests = [
    ...module.staticImports.map(({ moduleRequest }) => moduleRequest.value),
    ...module.staticExports.flatMap(({ entries }) =>
      entries.flatMap(({ moduleRequest }) => (moduleRequest ? [moduleRequest.value] : [])),
    ),
    ...module.dynamicImports.map(({ moduleRequest }) =>
      readLiteral(file, source.slice(moduleRequest.start, moduleRequest.end)),
    ),
  ];
  new Visitor({
    TSImportType: (type) => {
      requests.push(type.source.value);
    },
  }).visit(program);
  const own = requests.filter((request) => request.startsWith('.') && request.endsWith('.ts'));
  return [...new Set(own.map((request) => posix.join(dirname(file), request)))];
}

function readLiteral(file: string, text: string): string {
  const literal = /^(['"`])([^'"`$\\]*)\1$/.exec(text)?.[2];
  // Packages that are installed for one platform only are named at run time, by a variable; modules of ours never are.
  if (literal === undefined && /['"`.]\//.test(text)) {
    throw new Error(`${file} imports ${text}: a module of ours must be named by a plain string`);
  }
  return literal ?? '';
}
