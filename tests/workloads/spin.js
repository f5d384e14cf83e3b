// Answers `spin` and `rest` on its input, and spins in between.
"use strict";

let spinning = false;

function spinHere(rounds) {
  let sum = 0;
  for (let round = 0; round < rounds; round++) {
    sum = (sum * 31 + round) | 0;
  }
  return sum;
}

function turn() {
  if (spinning) {
    spinHere(3_000_000);
    setImmediate(turn);
  } else {
    setTimeout(turn, 20);
  }
}

process.stdin.on("data", (line) => {
  spinning = line.toString().trim() === "spin";
  console.log(spinning ? "spinning" : "resting");
});
process.stdin.on("end", () => process.exit(0));
console.log("ready");
turn();
