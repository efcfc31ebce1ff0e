import type { LoadResult } from './load/wrk.ts';

/** One side of a comparison, running. */
export interface Contender {
  readonly name: string;
  readonly url: string;
  /** Sent with every request. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent with every request, which is a POST then. */
  readonly body?: string;
  /** Processes whose trees are charged for CPU, by role. PostgreSQL and the chain below them are told apart. */
  readonly roots: Readonly<Record<string, number>>;
  /** For calls that need something of their own each, such as a payment that can be used once. */
  readonly tickets?: TicketOffice;
}

/** Makes what each request needs of its own, before the run; and knows afterwards what was taken for it. */
export interface TicketOffice {
  /** The request header that carries a ticket. */
  readonly header: string;
  /** Writes `count` unused tickets, one a line, divided among the files. */
  write(files: readonly string[], count: number): Promise<void>;
  /** How many calls were ever charged, by a witness that is neither contender nor load generator; absent where nothing is charged. */
  countCharged?(): Promise<number>;
  /** What the chain has spent on transactions since this was asked last; absent where none is. */
  readGas?(): Promise<Gas>;
}

export interface Gas {
  readonly used: bigint;
  /** The highest gas limit of a transaction. */
  readonly limitMax: bigint;
}

/** What is compared: one file in `cases/`, and its entry in `cases/index.ts`. */
export interface Case {
  /** As on the command line. */
  readonly name: string;
  readonly title: string;
  /** What a reader must know to judge the figures. */
  readonly notes: readonly string[];
  readonly connections: number;
  /** Calls a second, in all, for contenders with tickets; as many as are answered where it is absent. */
  readonly ratePerSecond?: number;
  readonly threads: number;
  /** Not counted: connections open, batches fill. */
  readonly rampSeconds: number;
  readonly windowSeconds: number;
  /** What is under way at the window's end is waited for this long, so that the books balance. */
  readonly drainSeconds: number;
  readonly warmUpSeconds: number;
  /** Whether each repetition starts its contenders anew, as what a run leaves behind would slow the next. */
  readonly startsAfresh?: true;
  /** Starts every contender, ours first. `stage` ends them, in reverse. */
  start(stage: Stage): Promise<readonly Contender[]>;
}

/** A measurement that is no load from outside: libraries that are called directly, or one client that looks closely. */
export interface Look {
  readonly name: string;
  readonly title: string;
  readonly notes: readonly string[];
  /** Of one contender's run; absent where something else ends it. */
  readonly windowSeconds?: number;
  /** Measures every contender in turn, and gives the tables. */
  measure(settings: {
    stage: Stage;
    repetitions: number;
    windowSeconds: number | undefined;
    log: (line: string) => void;
  }): Promise<string>;
}

/** What a case starts is ended here, whatever happens. */
export interface Stage {
  readonly folder: string;
  /** Settings for the instance under test, beside those of the case. */
  readonly environment: Readonly<Record<string, string>>;
  defer(end: () => Promise<unknown>): void;
}

/** One run of one contender. CPU is seconds by role, over the whole run. */
export interface Run {
  readonly load: LoadResult;
  readonly cpuSeconds: ReadonlyMap<string, number>;
  /** Cores that something outside this comparison kept busy. */
  readonly otherCores: number;
  readonly gas?: Gas;
}

export interface CaseResult {
  readonly case: Case;
  readonly contenders: readonly { readonly name: string; readonly runs: readonly Run[] }[];
}

/** The runs of several results of one case, as one. */
export function joinResults(results: readonly CaseResult[]): CaseResult {
  const [first] = results;
  if (!first) throw new Error('a case has a result');
  return {
    case: first.case,
    contenders: first.contenders.map(({ name }, index) => ({
      name,
      runs: results.flatMap(({ contenders }) => contenders[index]?.runs ?? []),
    })),
  };
}

/** The figures of a case can't be trusted: they are not shown. */
export class CheckFailed extends Error {
  override name = 'CheckFailed';
}

/** A contender left calls without an answer. */
export class CallsLost extends CheckFailed {
  readonly contender: string;

  constructor(contender: string, { sent, answered }: Pick<LoadResult, 'answered' | 'sent'>) {
    super(`${contender}: ${sent} calls were sent and ${answered} answered`);
    this.contender = contender;
  }
}
