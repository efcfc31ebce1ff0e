import { describe, expect, it } from 'vitest';
import { cpuByRole, parseStat, type ProcessCpu } from './cpu.ts';

const process = (pid: number, parent: number, name: string, seconds: number): ProcessCpu => ({
  pid,
  parent,
  name,
  seconds,
});

describe('parseStat', () => {
  it('adds up own and buried time, whatever the name holds', () => {
    const line = '42 (a) name (x)) S 7 42 42 0 -1 4194560 9 0 0 0 100 50 25 5 20 0 11 0 1234 99 9';
    expect(parseStat(line)).toEqual({ pid: 42, parent: 7, name: 'a) name (x)', seconds: 1.8 });
  });
});

describe('cpuByRole', () => {
  const processes = [
    process(10, 1, 'node-MainThread', 4),
    process(11, 10, 'anvil', 2),
    process(12, 10, 'postgres', 1),
    process(13, 12, 'postgres', 0.5),
    process(20, 1, 'nginx', 0.25),
    process(21, 20, 'nginx', 8),
    process(30, 1, 'node-MainThread', 64),
  ];

  it('counts whole trees, with database and chain apart, and nobody else', () => {
    expect(Object.fromEntries(cpuByRole(processes, { server: 10, upstream: 20 }))).toEqual({
      server: 4,
      chain: 2,
      postgres: 1.5,
      upstream: 8.25,
    });
  });

  it('does not go on without a process that has ended', () => {
    expect(() => cpuByRole(processes, { server: 99 })).toThrow('server (pid 99) has ended');
  });
});
