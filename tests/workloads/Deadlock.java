// Two threads that enter two monitors in opposite orders: `warm` has the methods compiled, `lock` has the
// threads meet, and says `deadlocked`.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.concurrent.CountDownLatch;

public class Deadlock {
    static final Object first = new Object();
    static final Object second = new Object();
    static long sink;

    static void meet(CountDownLatch both) throws InterruptedException {
        if (both != null) {
            both.countDown();
            both.await();
        }
    }

    static void firstThenSecond(CountDownLatch both) throws InterruptedException {
        synchronized (first) {
            meet(both);
            synchronized (second) {
                sink++;
            }
        }
    }

    static void secondThenFirst(CountDownLatch both) throws InterruptedException {
        synchronized (second) {
            meet(both);
            synchronized (first) {
                sink++;
            }
        }
    }

    interface Body {
        void run(CountDownLatch both) throws InterruptedException;
    }

    static void start(Body body, CountDownLatch both) {
        Thread thread = new Thread(() -> {
            try {
                body.run(both);
            } catch (InterruptedException error) {
                throw new RuntimeException(error);
            }
        });
        thread.setDaemon(true);
        thread.start();
    }

    public static void main(String[] arguments) throws Exception {
        System.out.println("ready");
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            if (line.equals("warm")) {
                for (int round = 0; round < 50_000; round++) {
                    firstThenSecond(null);
                    secondThenFirst(null);
                }
                System.out.println("warm");
            } else if (line.equals("lock")) {
                CountDownLatch both = new CountDownLatch(2);
                start(Deadlock::firstThenSecond, both);
                start(Deadlock::secondThenFirst, both);
                both.await();
                System.out.println("deadlocked");
            }
        }
    }
}
