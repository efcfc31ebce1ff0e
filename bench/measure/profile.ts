import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** The part of V8's .cpuprofile that is read. */
interface CpuProfile {
  nodes: {
    id: number;
    callFrame: { functionName: string; url: string; lineNumber: number };
    children?: number[];
  }[];
  samples: number[];
  timeDeltas: number[];
}

/** The functions, and the packages or rooms, in which a profiled process spent its time, the dearest first. */
export async function summariseProfiles(folder: string, top = 25): Promise<string> {
  const names = (await readdir(folder)).filter((name) => name.endsWith('.cpuprofile'));
  const texts = await Promise.all(
    names.map(async (name) => {
      const profile = JSON.parse(await readFile(join(folder, name), 'utf8')) as CpuProfile;
      return `${name}\n${summarise(profile, top)}`;
    }),
  );
  return texts.join('\n\n');
}

function summarise(profile: CpuProfile, top: number): string {
  const nodes = new Map(profile.nodes.map((node) => [node.id, node]));
  const parents = new Map(
    profile.nodes.flatMap(({ id, children = [] }) => children.map((child) => [child, id])),
  );
  const [byFunction, byCause] = [new Map<string, number>(), new Map<string, number>()];
  let busy = 0;
  profile.samples.forEach((id, index) => {
    const frame = nodes.get(id)?.callFrame;
    if (!frame || frame.functionName === '(idle)' || frame.functionName === '(root)') return;
    const micros = profile.timeDeltas[index] ?? 0;
    busy += micros;
    const name = `${frame.functionName || '(anonymous)'} ${fileOf(frame.url)}:${frame.lineNumber + 1}`;
    byFunction.set(name, (byFunction.get(name) ?? 0) + micros);
    const cause = causeOf(id);
    byCause.set(cause, (byCause.get(cause) ?? 0) + micros);
  });

  /** What a sample was taken for: the nearest caller in a package or in our source, as system calls belong to theirs. */
  function causeOf(id: number): string {
    for (let at: number | undefined = id; at !== undefined; at = parents.get(at)) {
      const place = placeOf(nodes.get(at)?.callFrame.url ?? '');
      if (place !== undefined) return place;
    }
    return nodes.get(id)?.callFrame.functionName === '(garbage collector)'
      ? 'garbage collector'
      : 'Node itself';
  }
  const lines = (map: Map<string, number>) =>
    [...map]
      .toSorted(([, left], [, right]) => right - left)
      .slice(0, top)
      .map(([name, micros]) => `  ${((micros / busy) * 100).toFixed(1).padStart(5)} %  ${name}`)
      .join('\n');
  return `busy ${(busy / 1e6).toFixed(1)} s\nby cause\n${lines(byCause)}\nby function\n${lines(byFunction)}`;
}

/** The folder of our own source, or a package's name; the `fetch` that Node brings counts as one. */
function placeOf(url: string): string | undefined {
  if (url.startsWith('node:internal/deps/undici')) return 'fetch';
  return (
    /.*node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(url)?.[1] ??
    /\/(server\/src\/.+)$/.exec(url)?.[1] ??
    undefined
  );
}

function fileOf(url: string): string {
  return url.split('/').slice(-3).join('/');
}
