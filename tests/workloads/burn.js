// Burns CPU time in functions that V8 compiles, until the program that started it ends.
'use strict';

let sink = 0;

function burnInJavaScript(steps) {
  let value = sink | 0;
  for (let step = 0; step < steps; step++) {
    value = (Math.imul(value, 1664525) + step) | 0;
  }
  sink = value;
}

function descend(calls) {
  if (calls === 0) {
    burnInJavaScript(20000);
    return 1;
  }
  return descend(calls - 1) + 1;
}

function turn() {
  const end = Date.now() + 20;
  while (Date.now() < end) {
    descend(8);
  }
  setImmediate(turn);
}

process.stdin.on('end', () => process.exit(0)).resume();
console.log('ready');
turn();
