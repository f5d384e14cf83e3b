// Answers `spin` and `rest` on its input, and spins in between.

import java.io.BufferedReader;
import java.io.InputStreamReader;

public class Spin {
    static volatile boolean spinning;
    static volatile int result;

    static int spinHere(int rounds) {
        int sum = 0;
        for (int round = 0; round < rounds; round++) {
            sum = sum * 31 + (sum >>> 7) + round;
        }
        return sum;
    }

    static void work() {
        try {
            while (true) {
                if (spinning) {
                    result = spinHere(100_000);
                } else {
                    Thread.sleep(20);
                }
            }
        } catch (InterruptedException ended) {
            System.exit(1);
        }
    }

    public static void main(String[] arguments) throws Exception {
        Thread worker = new Thread(Spin::work);
        worker.setDaemon(true);
        worker.start();
        System.out.println("ready");
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            spinning = line.equals("spin");
            System.out.println(spinning ? "spinning" : "resting");
        }
    }
}
