using System.Buffers;
using System.Text;

namespace LlmPipeline.Text.Sources;

/// <summary>A JSON text is broken; the message continues "line 5 ...".</summary>
internal sealed class JsonScanException(string message) : Exception(message);

/// <summary>
/// Takes the string of one property out of a JSON object (RFC 8259) that is given in parts, without ever holding all of it. Accepts
/// and refuses what <see cref="System.Text.Json.Utf8JsonReader"/> does, nesting above 64 included.
/// </summary>
/// <param name="field">Name of the property, at the top level.</param>
/// <param name="text">Takes the unescaped string, as UTF-8.</param>
internal sealed class JsonTextScanner(string field, TextCutter text)
{
    public const string NotAnObject = "is not a JSON object. A .jsonl file has one object a line.";

    private const int MaxDepth = 64;

    private static readonly SearchValues<byte> StringEnds = SearchValues.Create([.. Enumerable.Range(0, 0x20).Select(i => (byte)i), (byte)'"', (byte)'\\']);

    private readonly byte[] _field = Encoding.UTF8.GetBytes(field);
    private readonly List<byte> _key = [];
    private State _state = State.Begin;
    private Target _target;
    private ulong _objects;
    private int _depth;
    private bool _isWanted;
    private bool _found;
    private byte[] _literal = [];
    private int _matched;
    private int _hex;
    private int _highSurrogate;
    private long _position;

    private enum State
    {
        Begin, KeyOrEnd, Key, Colon, Value, ValueOrEnd, AfterValue, Done, String, Escape, Hex, LowEscape, LowU, Literal,
        Minus, Zero, Integer, Dot, Fraction, Exponent, ExponentSign, ExponentDigits,
    }

    private enum Target
    {
        Nothing, Key, Text,
    }

    public static string NotAString(string field) => $"has a '{field}' that is not a string. Name the property that holds the text in text_field.";

    public static string Missing(string field) => $"has no property '{field}'. Name the property that holds the text in text_field.";

    public static string Twice(string field) => $"has the property '{field}' twice. Mend or remove the line.";

    /// <summary>Takes the next part, without line ends.</summary>
    /// <exception cref="JsonScanException">The text is broken.</exception>
    public void Push(ReadOnlySpan<byte> bytes)
    {
        for (var i = 0; i < bytes.Length;)
        {
            if (_state == State.String)
            {
                var run = bytes[i..].IndexOfAny(StringEnds);
                run = run < 0 ? bytes.Length - i : run;
                Emit(bytes.Slice(i, run));
                i += run;
                _position += run;
                if (i == bytes.Length)
                {
                    return;
                }
            }

            if (Step(bytes[i]))
            {
                i++;
                _position++;
            }
        }
    }

    /// <summary>Says that the line ends.</summary>
    /// <exception cref="JsonScanException">It ends too early, or has no text.</exception>
    public void Finish()
    {
        if (_state == State.Begin)
        {
            // A blank line.
            text.Complete();
            return;
        }

        if (_state != State.Done)
        {
            throw Broken("it ends too early");
        }

        if (!_found)
        {
            throw new JsonScanException(Missing(field));
        }

        text.Complete();
    }

    // False where the byte has to be looked at again: a number ends with the byte after it.
    private bool Step(byte value)
    {
        switch (_state)
        {
            case State.String:
                StepString(value);
                return true;
            case State.Escape:
                StepEscape(value);
                return true;
            case State.Hex:
                StepHex(value);
                return true;
            case State.LowEscape or State.LowU:
                _state = value != (_state == State.LowEscape ? (byte)'\\' : (byte)'u') ? throw Broken("a lone surrogate")
                    : _state == State.LowEscape ? State.LowU : BeginHex();
                return true;
            case State.Literal:
                if (value != _literal[_matched++])
                {
                    throw Unexpected(value);
                }

                _state = _matched == _literal.Length ? State.AfterValue : _state;
                return true;
            case >= State.Minus:
                return StepNumber(value);
            case var _ when value is (byte)' ' or (byte)'\t' or (byte)'\r':
                return true;
            default:
                StepStructure(value);
                return true;
        }
    }

    private void StepStructure(byte value)
    {
        switch (_state, (char)value)
        {
            case (State.Begin, '{'):
                Open(isObject: true);
                break;
            case (State.Begin, _):
                throw new JsonScanException(NotAnObject);
            case (State.KeyOrEnd or State.Key, '"'):
                _target = _depth == 1 ? Target.Key : Target.Nothing;
                _key.Clear();
                _state = State.String;
                _matched = -1;
                break;
            case (State.KeyOrEnd, '}') or (State.ValueOrEnd, ']'):
                Close();
                break;
            case (State.AfterValue, '}') when IsInObject:
            case (State.AfterValue, ']') when !IsInObject:
                Close();
                break;
            case (State.AfterValue, ','):
                _state = IsInObject ? State.Key : State.Value;
                break;
            case (State.Colon, ':'):
                _state = State.Value;
                break;
            case (State.Value or State.ValueOrEnd, _):
                BeginValue(value);
                break;
            default:
                throw Unexpected(value);
        }
    }

    private bool IsInObject => (_objects & (1UL << (_depth - 1))) != 0;

    private void BeginValue(byte value)
    {
        var isWanted = _isWanted && _depth == 1;
        if (isWanted && _found)
        {
            throw new JsonScanException(Twice(field));
        }

        if (isWanted && value != '"')
        {
            throw new JsonScanException(NotAString(field));
        }

        switch ((char)value)
        {
            case '"':
                _target = isWanted ? Target.Text : Target.Nothing;
                _matched = 0;
                _state = State.String;
                break;
            case '{':
                Open(isObject: true);
                break;
            case '[':
                Open(isObject: false);
                break;
            case 't' or 'f' or 'n':
                _literal = value == 't' ? "true"u8.ToArray() : value == 'f' ? "false"u8.ToArray() : "null"u8.ToArray();
                _matched = 1;
                _state = State.Literal;
                break;
            case '-':
                _state = State.Minus;
                break;
            case '0':
                _state = State.Zero;
                break;
            case >= '1' and <= '9':
                _state = State.Integer;
                break;
            default:
                throw Unexpected(value);
        }
    }

    private void Open(bool isObject)
    {
        if (_depth == MaxDepth)
        {
            throw Broken($"it is nested more than {MaxDepth} deep");
        }

        _objects = isObject ? _objects | (1UL << _depth) : _objects & ~(1UL << _depth);
        _depth++;
        _state = isObject ? State.KeyOrEnd : State.ValueOrEnd;
    }

    private void Close()
    {
        _depth--;
        _state = _depth == 0 ? State.Done : State.AfterValue;
    }

    private void StepString(byte value)
    {
        if (value == '\\')
        {
            _state = State.Escape;
            return;
        }

        if (value != '"')
        {
            throw Broken($"a control character 0x{value:X2} in a string");
        }

        // A key has _matched -1, a value 0.
        var isKey = _matched < 0;
        if (isKey && _depth == 1)
        {
            _isWanted = System.Runtime.InteropServices.CollectionsMarshal.AsSpan(_key).SequenceEqual(_field);
        }

        _found |= _target == Target.Text;
        _target = Target.Nothing;
        _state = isKey ? State.Colon : State.AfterValue;
    }

    private void StepEscape(byte value)
    {
        if (value == 'u')
        {
            _highSurrogate = 0;
            _state = BeginHex();
            return;
        }

        Emit([value switch
        {
            (byte)'"' or (byte)'\\' or (byte)'/' => value,
            (byte)'b' => (byte)'\b',
            (byte)'f' => (byte)'\f',
            (byte)'n' => (byte)'\n',
            (byte)'r' => (byte)'\r',
            (byte)'t' => (byte)'\t',
            _ => throw Unexpected(value),
        }]);
        _state = State.String;
    }

    // The digits so far behind a 1.
    private State BeginHex()
    {
        _hex = 1;
        return State.Hex;
    }

    private void StepHex(byte value)
    {
        _hex = char.IsAsciiHexDigit((char)value) ? (_hex << 4) | Convert.ToInt32(((char)value).ToString(), 16) : throw Unexpected(value);
        if (_hex < 0x10000)
        {
            return;
        }

        var unit = (char)_hex;
        _state = State.String;
        if (_target == Target.Nothing)
        {
            return;
        }

        if (_highSurrogate != 0)
        {
            Emit(char.IsLowSurrogate(unit) ? new Rune((char)_highSurrogate, unit) : throw Broken("a lone surrogate"));
            _highSurrogate = 0;
        }
        else if (char.IsHighSurrogate(unit))
        {
            _highSurrogate = unit;
            _state = State.LowEscape;
        }
        else
        {
            Emit(Rune.TryCreate(unit, out var rune) ? rune : throw Broken("a lone surrogate"));
        }
    }

    private bool StepNumber(byte value)
    {
        var isDigit = char.IsAsciiDigit((char)value);
        State? next = _state switch
        {
            State.Minus => value == '0' ? State.Zero : isDigit ? State.Integer : throw Unexpected(value),
            State.Zero or State.Integer when value == '.' => State.Dot,
            State.Zero or State.Integer or State.Fraction when value is (byte)'e' or (byte)'E' => State.Exponent,
            State.Integer when isDigit => State.Integer,
            State.Dot or State.Fraction when isDigit => State.Fraction,
            State.Exponent when value is (byte)'+' or (byte)'-' => State.ExponentSign,
            State.Exponent or State.ExponentSign or State.ExponentDigits when isDigit => State.ExponentDigits,
            State.Dot or State.Exponent or State.ExponentSign => throw Unexpected(value),
            _ => null,
        };
        _state = next ?? State.AfterValue;
        return next is not null;
    }

    private void Emit(Rune rune)
    {
        Span<byte> utf8 = stackalloc byte[4];
        Emit(utf8[..rune.EncodeToUtf8(utf8)]);
    }

    private void Emit(ReadOnlySpan<byte> bytes)
    {
        if (_target == Target.Text)
        {
            text.Append(bytes);
        }
        else if (_target == Target.Key)
        {
            // One byte too many is as different as all of them.
            _key.AddRange(bytes[..Math.Min(bytes.Length, _field.Length + 1 - Math.Min(_key.Count, _field.Length + 1))]);
        }
    }

    private JsonScanException Unexpected(byte value) => Broken(value is > 0x20 and < 0x7F ? $"'{(char)value}' is not expected" : $"byte 0x{value:X2} is not expected");

    private JsonScanException Broken(string what) => new($"is not valid JSON: {what} at byte {_position} of the line. Mend or remove the line.");
}
