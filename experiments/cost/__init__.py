"""cost: what does a step that moves one block cost, beside what arithmetic says?"""
