import { expect } from 'vitest';
import type { Point } from '../../src/kernel/points.ts';
import type { Member } from './fleet.ts';
import { buyersOf, type Order, pay, payUntilAnswered, type Purchase } from './purchases.ts';
import type { Stage } from './stage.ts';

/** `upstream` is no point of the program's: there it stands while the upstream keeps its answer to itself. */
export type Place = Point | 'upstream';

/**
 * What is bought; the places to which its purchases are brought together, at the last of which they are when the process is killed; what
 * that leaves in their rows; and how it ends for who comes back to the other gateway with the same payment, and for who never does.
 */
export type Row = [order: Order, places: Place[], leaves: string, back: string, away: string];

/** Kills a process in which all of these stand; gives how that went, as rows that say so, and each rule that was broken. */
export async function killInRound(
  stage: Stage,
  rows: readonly Row[],
  killed: Member,
  other: Member,
): Promise<{ seen: unknown[]; faults: string[] }> {
  const { oracle } = stage;
  const groups: { row: Row; returning: Purchase[]; leaving: Purchase[] }[] = [];
  for (const row of rows) {
    const [order, places] = row;
    const [returning, leaving] = await Promise.all([
      signAll(stage, other, order),
      signAll(stage, other, order),
    ]);
    await bringTo(stage, killed, places, [...returning, ...leaving]);
    await mapAll([...returning, ...leaving], oracle.keep);
    groups.push({ row, returning, leaving });
  }
  await killed.kill();
  const restarted = killed.start();
  const all = groups.flatMap(({ returning, leaving }) => [...returning, ...leaving]);
  const leaves = new Map(await mapAll(all, async (one) => [one, await oracle.describe(one)] as const));
  await mapAll(all, oracle.age);
  await Promise.all([
    ...groups.flatMap(({ returning }) => returning).map((one) => payUntilAnswered(other, one)),
    ...groups.flatMap(({ leaving }) => leaving).map(oracle.settleDown),
  ]);
  await Promise.all([restarted, mapAll(all, oracle.settleDown)]);

  const seen = await mapAll(groups, async ({ row: [order, places], returning, leaving }) => [
    order,
    places,
    inOneWord([...returning, ...leaving].map((one) => leaves.get(one) ?? '')),
    inOneWord(await mapAll(returning, async (one) => `${answerOf(one)}, ${await oracle.describeEnd(one)}`)),
    inOneWord(await mapAll(leaving, oracle.describeEnd)),
  ]);
  return { seen, faults: (await mapAll(all, (one) => oracle.findFaults(one, killed))).flat() };
}

/** A stranger's purchase and a wallet's; what is paid first is paid to our wallet, which doesn't pay itself. */
export function signAll({ market }: Stage, at: Member, order: Order): Promise<Purchase[]> {
  const buyers = buyersOf(order);
  return Promise.all(buyers.map((buyer) => market.sign(at, order, buyer)));
}

/**
 * Sends all to a process, and has them stand at each of the places in turn: so they go on from it in one batch. Gives what resolves when each
 * has its answer, or never will.
 */
export async function bringTo(
  { market }: Stage,
  member: Member,
  [start, ...more]: readonly Place[],
  all: readonly Purchase[],
): Promise<{ answered: Promise<unknown> }> {
  if (start === 'upstream') market.hold();
  await member.arm(start === 'upstream' ? undefined : start);
  const answered = mapAll(all, (one) => pay(member, one));
  if (start === 'upstream') {
    const runs = () => all.map((one) => market.runsOf(one));
    await expect.poll(runs, { timeout: 20_000 }).toEqual(all.map(() => 1));
    market.release();
    return { answered };
  }
  await member.standing(all.length);
  for (const place of more) {
    await member.moveTo(place as Point);
    await member.standing();
  }
  return { answered };
}

export function mapAll<Item, Result>(
  items: readonly Item[],
  each: (item: Item) => Promise<Result>,
): Promise<Result[]> {
  return Promise.all(items.map((item) => each(item)));
}

export function nameOf([order, places]: Row): string {
  return `${order} at ${places.at(-1)}`;
}

/** What all say, if they say the same. */
export function inOneWord(words: readonly string[]): string {
  return [...new Set(words)].join(' | ');
}

function answerOf({ answers }: Purchase): string {
  const answer = answers.at(-1);
  return answer?.status === 200 ? '200' : answer?.json().code;
}
