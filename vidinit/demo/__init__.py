"""The built-in demonstration: does this model see motion?"""
