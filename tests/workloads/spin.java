// Prints `ready` and spins: compiled code, and the virtual machine's own.
import java.util.Arrays;

class Spin {
    static long sink;

    static long burnInJava(int rounds) {
        long value = sink;
        for (int step = 0; step < rounds; step++) {
            value = value * 6364136223846793005L + step;
        }
        return value;
    }

    static void callBack() {
        Integer[] numbers = new Integer[300];
        for (int i = 0; i < numbers.length; i++) {
            numbers[i] = (int) ((i * 7919L + sink) % 1009);
        }
        Arrays.sort(numbers, (a, b) -> {
            sink += burnInJava(20);
            return Integer.compare(a, b);
        });
        sink += new String(Arrays.toString(numbers)).intern().hashCode();
    }

    public static void main(String[] arguments) {
        System.out.println("ready");
        for (;;) {
            sink += burnInJava(20000);
            callBack();
        }
    }
}
