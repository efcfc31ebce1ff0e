import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import solc from 'solc';
import type { Abi, Hex } from 'viem';

/** What one Solidity contract compiles to. */
export interface CompiledContract {
  abi: Abi;
  bytecode: Hex;
  deployedBytecode: Hex;
}

interface SolcOutput {
  errors?: { severity: 'error' | 'warning' | 'info'; formattedMessage: string }[];
  contracts?: Record<
    string,
    Record<
      string,
      { abi: Abi; evm: { bytecode: { object: string }; deployedBytecode: { object: string } } } | undefined
    >
  >;
}

// Fixed, and without a metadata hash, so that every machine makes the same bytes.
const compilerSettings = {
  optimizer: { enabled: true, runs: 10_000 },
  // Nine arguments of EIP-3009 are more than the older code generator's stack holds.
  viaIR: true,
  evmVersion: 'cancun',
  metadata: { bytecodeHash: 'none', appendCBOR: false },
  outputSelection: { '*': { '*': ['abi', 'evm.bytecode.object', 'evm.deployedBytecode.object'] } },
};

/** Compiles the contract that a `.sol` file is named after. Throws on errors and warnings alike. */
export function compileContract(file: URL): CompiledContract {
  const fileName = basename(file.pathname);
  const contractName = basename(fileName, '.sol');
  const input = {
    language: 'Solidity',
    sources: { [fileName]: { content: readFileSync(file, 'utf8') } },
    settings: compilerSettings,
  };
  const rendered: string = solc.compile(JSON.stringify(input));
  const output: SolcOutput = JSON.parse(rendered);
  const problems = (output.errors ?? []).filter((problem) => problem.severity !== 'info');
  if (problems.length > 0) throw new Error(problems.map((problem) => problem.formattedMessage).join('\n'));

  const contract = output.contracts?.[fileName]?.[contractName];
  if (contract === undefined) throw new Error(`${fileName} has no contract ${contractName}`);
  return {
    abi: contract.abi,
    bytecode: `0x${contract.evm.bytecode.object}`,
    deployedBytecode: `0x${contract.evm.deployedBytecode.object}`,
  };
}

/** The contracts that are planted on local chains, each committed beside its source as it compiles. */
export const contractNames = ['Batch', 'TestUsdc'] as const;

type ContractName = (typeof contractNames)[number];

/** The text of a contract's artifact, as the source beside this file compiles today. */
export function renderArtifact(contractName: ContractName): string {
  const source = new URL(`${contractName}.sol`, import.meta.url);
  const { abi, bytecode, deployedBytecode } = compileContract(source);
  const compiler: string = solc.version();
  const artifact = {
    contractName,
    solc: compiler,
    sourceSha256: createHash('sha256').update(readFileSync(source)).digest('hex'),
    abi,
    // What a transaction that deploys it is sent with; what stands there then.
    bytecode,
    deployedBytecode,
  };
  return `${JSON.stringify(artifact, null, 2)}\n`;
}

/** The text of a contract's artifact as it is committed; empty where there is none, which is as stale as a wrong one. */
export function readArtifact(contractName: ContractName): string {
  try {
    return readFileSync(artifactFile(contractName), 'utf8');
  } catch {
    return '';
  }
}

function artifactFile(contractName: ContractName): URL {
  return new URL(`${contractName}.json`, import.meta.url);
}

function main(args: string[]): void {
  for (const contractName of contractNames) {
    const rendered = renderArtifact(contractName);
    if (!args.includes('--check')) {
      writeFileSync(artifactFile(contractName), rendered);
    } else if (readArtifact(contractName) !== rendered) {
      process.stderr.write(
        `server/contracts/${contractName}.json is not what ${contractName}.sol compiles to: run "node server/contracts/compile.ts"\n`,
      );
      process.exitCode = 1;
    }
  }
}

if (import.meta.main) main(process.argv.slice(2));
