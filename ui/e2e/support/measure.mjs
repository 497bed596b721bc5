// Measured times against a budget. Whatever else the machine does can only make a page slower, never quicker: so what a
// page costs is the best of a few rounds, each from the beginning. Only a time may be measured again, nothing else.
import assert from 'node:assert/strict';

const ROUNDS_MAX = 3;

class Slow extends assert.AssertionError {}

/** Fails the round unless a time in milliseconds is below its budget. */
export function below(budget, ms, what) {
  if (!(ms < budget)) throw new Slow({ message: `${what}: ${ms.toFixed(0)} ms, and ${budget} ms are the most`, actual: ms, expected: budget, operator: '<' });
}

/** Runs a measurement, and again while it is only too slow. */
export async function bestOf(run) {
  for (let round = 1; ; round++) {
    try {
      return await run();
    } catch (error) {
      if (!(error instanceof Slow) || round === ROUNDS_MAX) throw error;
      console.log(`round ${round}: ${error.message}`);
    }
  }
}
