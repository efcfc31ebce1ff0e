/** A form (`application/x-www-form-urlencoded`) as an object of texts; of a field that is repeated, as a list. */
export function readForm(text: string): Record<string, string | string[]> {
  // Without a prototype, so that no field is there which wasn't sent.
  const fields = Object.create(null) as Record<string, string | string[]>;
  for (const [name, value] of new URLSearchParams(text)) {
    const earlier = fields[name];
    if (earlier === undefined) fields[name] = value;
    else if (typeof earlier === 'string') fields[name] = [earlier, value];
    else earlier.push(value);
  }
  return fields;
}
