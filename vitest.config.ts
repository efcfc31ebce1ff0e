import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['server/**/*.test.ts', 'sdk/**/*.test.ts', 'bench/**/*.test.ts', 'scripts/**/*.test.ts'],
    // A process for each file: a test that dies or is killed takes no other one with it.
    pool: 'forks',
    // Files may start a database and a chain of their own, which want the machine's cores as well.
    maxWorkers: Math.min(2, availableParallelism()),
    testTimeout: 30_000,
    hookTimeout: 60_000,
    passWithNoTests: false,
    // One database server for the whole run; each file clones a database of its own from its template.
    globalSetup: ['server/test/helpers/database-server.ts'],
  },
});
