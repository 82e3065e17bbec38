// What the JavaScript programs of Kafka clients share: running scenarios by name, and a member's lines.

const run = Math.random().toString(16).slice(2, 10);
let names = 0;

export function unique(name) {
  names += 1;
  return `js-${name}-${run}-${names}`;
}

export function same(found, expected) {
  const [a, b] = [JSON.stringify(found), JSON.stringify(expected)];
  if (a !== b) throw new Error(`${a} is not ${b}`);
}

export function numbers(from, to) {
  return Array.from({ length: to - from }, (_, at) => `${from + at}`);
}

/// Rejects when the promise takes longer.
export function within(promise, milliseconds, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${milliseconds} ms`)), milliseconds);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

export async function runAll(scenarios) {
  let good = true;
  for (const [name, scenario] of Object.entries(scenarios)) {
    try {
      await within(scenario(), 60_000, name);
      console.log(`ok ${name}`);
    } catch (error) {
      good = false;
      console.error(error);
      console.log(`failed ${name} ${`${error.message} ${error.cause ?? ''}`.replaceAll('\n', ' ')}`);
    }
  }
  process.exit(good ? 0 : 1);
}

let held;

/// Prints what a member holds, when it has changed.
export function holds(partitions) {
  const now = [...partitions].sort((a, b) => a - b).join(',');
  if (now !== held) {
    held = now;
    console.log(`assigned ${now}`);
  }
}

export function record(partition, offset, value) {
  console.log(`record ${partition} ${offset} ${value}`);
}
