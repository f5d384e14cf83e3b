// Prints `ready` and spins: compiled code, the runtime's own C++ code, and calls between them.
'use strict';

function burnInNode(rounds) {
  let value = 1;
  for (let step = 0; step < rounds; step++) {
    value = (value * 1103515245 + step) & 0x7fffffff;
  }
  return value;
}

function callBack(numbers) {
  return numbers.slice().sort((a, b) => (burnInNode(20), a - b))[0];
}

const numbers = Array.from({ length: 300 }, (_, index) => (index * 7919) % 1009);
console.log('ready');
for (let sum = 0; ; ) {
  sum += burnInNode(20000) + callBack(numbers);
  sum += JSON.stringify(JSON.parse(JSON.stringify(numbers))).replace(/1(2|3)+/g, 'x').length;
}
