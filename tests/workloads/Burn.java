// Burns CPU time in methods that the virtual machine compiles, until its input ends.
public class Burn {
    static long sink = 1;

    static void burnInJava(int steps) {
        long value = sink;
        for (int step = 0; step < steps; step++) {
            value = value * 6364136223846793005L + step;
        }
        sink = value;
    }

    static int descend(int calls) {
        if (calls == 0) {
            burnInJava(20000);
            return 1;
        }
        return descend(calls - 1) + 1;
    }

    public static void main(String[] arguments) {
        Thread listener = new Thread(() -> {
            try {
                while (System.in.read() >= 0) {
                }
            } catch (java.io.IOException error) {
                // Nobody listens any more.
            }
            System.exit(0);
        });
        listener.setDaemon(true);
        listener.start();
        System.out.println("ready");
        for (;;) {
            sink += descend(8);
        }
    }
}
