/** What Ajv says of one rule that was broken. */
export interface SchemaFault {
  instancePath: string;
  schemaPath: string;
  keyword: string;
  message?: string;
  params: Record<string, unknown>;
}

/** A fault as a caller is told it. */
export interface FieldFault {
  field: string;
  message: string;
}

/**
 * Faults in the order found, each once, in words. Of a field that may have several forms, only what is wrong with the form
 * that was meant is told: to name each form's every fault would hide it.
 */
export function describeFaults(faults: SchemaFault[]): FieldFault[] {
  const told = new Map<string, FieldFault>();
  for (const fault of faults.reduce(settleChoice, [] as SchemaFault[])) {
    const one = { field: fieldOf(fault), message: messageOf(fault) };
    told.set(`${one.field} ${one.message}`, one);
  }
  return [...told.values()];
}

/** Ajv reports the faults of an `anyOf`'s branches first, then the `anyOf`: here they are weighed, and it goes. */
function settleChoice(seen: SchemaFault[], choice: SchemaFault): SchemaFault[] {
  if (choice.keyword !== 'anyOf') return [...seen, choice];
  const prefix = `${choice.schemaPath}/`;
  const isOfBranch = ({ schemaPath, instancePath }: SchemaFault) =>
    schemaPath.startsWith(prefix) && instancePath.startsWith(choice.instancePath);
  const ofBranches = seen.filter(isOfBranch);
  const branches = Object.values(
    Object.groupBy(ofBranches, ({ schemaPath }) => schemaPath.slice(prefix.length).split('/', 1)[0] ?? ''),
  ).map((branch) => branch ?? []);
  const ofThisKind = branches.filter((branch) => !branch.some((fault) => isAnotherKind(fault, choice)));
  const meant = ofThisKind.filter((branch) => !branch.some(({ keyword }) => keyword === 'const'));
  const told = (meant.length > 0 ? meant : ofThisKind).flat();
  const rest = seen.filter((fault) => !isOfBranch(fault));
  if (told.length > 0) return [...rest, ...told];
  const forms = [...new Set(ofBranches.map(formOf))];
  return [
    ...rest,
    { ...choice, message: forms.length > 0 ? `must be ${forms.join(' or ')}` : 'is not valid' },
  ];
}

function isAnotherKind(fault: SchemaFault, choice: SchemaFault): boolean {
  return fault.instancePath === choice.instancePath && ['type', 'const', 'enum'].includes(fault.keyword);
}

function formOf({ keyword, params }: SchemaFault): string {
  if (keyword === 'const') return String(params['allowedValue']);
  if (keyword === 'enum') return (params['allowedValues'] as unknown[]).join(' or ');
  return String(params['type']);
}

function fieldOf(fault: SchemaFault): string {
  const path = fault.instancePath.split('/').slice(1);
  const member = fault.params['additionalProperty'] ?? fault.params['missingProperty'];
  return [...path, ...(typeof member === 'string' ? [member] : [])].join('.') || 'body';
}

function messageOf(fault: SchemaFault): string {
  if (fault.keyword === 'additionalProperties') return 'is not a known field';
  if (fault.keyword === 'required') return 'is missing';
  if (fault.keyword === 'const' || fault.keyword === 'enum') return `must be ${formOf(fault)}`;
  if (fault.keyword === 'format' && fault.params['format'] === 'date-time')
    return 'must be a time with its zone, such as 2026-01-31T09:30:00Z';
  return fault.message ?? 'is not valid';
}
