namespace LlmPipeline.Text.NGrams;

/// <summary>
/// All n-grams of a text as the nodes of a trie: a node is its parent (the n-gram without its last id) and that id. One hash
/// table of 12 bytes an entry holds the edges; node 0 is the empty n-gram.
/// </summary>
internal sealed class NgramTrie
{
    private ulong[] _keys = new ulong[1 << 16];
    private int[] _nodes = new int[1 << 16];

    /// <summary>Number of nodes, the root included.</summary>
    public int Count { get; private set; } = 1;

    /// <summary>The node that is reached by an id, or -1.</summary>
    public int Find(int parent, int id)
    {
        var key = Key(parent, id);
        for (var slot = Slot(key); ; slot = (slot + 1) & (_keys.Length - 1))
        {
            if (_keys[slot] == key)
            {
                return _nodes[slot];
            }

            if (_keys[slot] == 0)
            {
                return -1;
            }
        }
    }

    /// <summary>The node that is reached by an id; it is made when it is not there.</summary>
    public int FindOrAdd(int parent, int id, out bool added)
    {
        var key = Key(parent, id);
        for (var slot = Slot(key); ; slot = (slot + 1) & (_keys.Length - 1))
        {
            if (_keys[slot] == key)
            {
                added = false;
                return _nodes[slot];
            }

            if (_keys[slot] == 0)
            {
                added = true;
                if (Count * 5L > _keys.Length * 3L)
                {
                    Grow();
                    return Insert(key);
                }

                _keys[slot] = key;
                return _nodes[slot] = Count++;
            }
        }
    }

    /// <summary>All edges: parent, id, node; in no particular order.</summary>
    public IEnumerable<(int Parent, int Id, int Node)> Edges()
    {
        for (var slot = 0; slot < _keys.Length; slot++)
        {
            if (_keys[slot] != 0)
            {
                var key = _keys[slot] - 1;
                yield return ((int)(key >> 32), (int)key, _nodes[slot]);
            }
        }
    }

    private int Insert(ulong key)
    {
        var slot = Slot(key);
        while (_keys[slot] != 0)
        {
            slot = (slot + 1) & (_keys.Length - 1);
        }

        _keys[slot] = key;
        return _nodes[slot] = Count++;
    }

    private void Grow()
    {
        var (keys, nodes) = (_keys, _nodes);
        _keys = new ulong[checked(keys.Length * 2)];
        _nodes = new int[_keys.Length];
        for (var i = 0; i < keys.Length; i++)
        {
            if (keys[i] != 0)
            {
                var slot = Slot(keys[i]);
                while (_keys[slot] != 0)
                {
                    slot = (slot + 1) & (_keys.Length - 1);
                }

                (_keys[slot], _nodes[slot]) = (keys[i], nodes[i]);
            }
        }
    }

    private static ulong Key(int parent, int id) => (((ulong)(uint)parent << 32) | (uint)id) + 1;

    private int Slot(ulong key) => (int)((key * 0x9E3779B97F4A7C15) >> 24) & (_keys.Length - 1);
}
